"""What a killed run need not do again: finished stages, kept as JSON in the run folder."""

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hwprune import __version__
from hwprune.errors import StoreError
from hwprune.stages.options import CompileOptions
from hwprune.store.files import write_atomic
from hwprune.store.rundir import RunFolder, digest

_NOT_INPUTS = ("out", "force", "storage", "study")  # options that change where, not what


class Checkpoints:
    """The finished stages of one run; stages made from other inputs are not seen."""

    def __init__(self, run: RunFolder, inputs: str) -> None:
        self.folder = run.path
        self.resumed: set[str] = set()
        self._run = run
        self._inputs = inputs
        self._turns: Counter[str] = Counter()

    def take(self, name: str) -> Any | None:
        """The document of a finished stage, or None if it has to be done."""
        if self._run.stage(name, self._inputs) is None:
            return None
        self.resumed.add(name)
        return json.loads(self._run.file(f"{name}.json").read_bytes())

    def turn(self, name: str) -> str:
        """`name` with the number of times that this process has come to it: what is done more than
        once, in the same order whenever the run is resumed.
        """
        self._turns[name] += 1
        return f"{name}-{self._turns[name]}"

    def keep(self, name: str, document: Any, *files: str) -> None:
        """Marks a stage as finished; `files` of the run folder belong to it."""
        text = json.dumps(document, allow_nan=False)
        write_atomic(self._run.file(f"{name}.json"), text.encode())
        self._run.finish(name, self._inputs, [f"{name}.json", *files], 0.0)


@contextmanager
def open_run(out: Path, options: CompileOptions) -> Iterator[Checkpoints]:
    """Locks the output folder for this run.

    Raises StoreError if another process works in it, or if it holds anything but this very run.
    """
    inputs = inputs_digest(options)
    _check_folder(out, inputs, options.force)
    with RunFolder(out / "run").lock() as run:
        if options.force or _owner(out) != inputs:
            _clear(run.path)
            write_atomic(run.path / "inputs", inputs.encode())
        yield Checkpoints(run, inputs)


def inputs_digest(options: CompileOptions) -> str:
    """Names everything a run is made from: options, and the files they point to."""
    document = {k: v for k, v in asdict(options).items() if k not in _NOT_INPUTS}
    named = (options.model, options.weights, options.data, options.train_data, options.eval_data)
    stamps = [_stamp(Path(str(name))) for name in named if name is not None]
    return digest(json.loads(json.dumps(document, default=str)), stamps, __version__)


def _stamp(path: Path) -> list[int]:
    if not path.exists():
        return []
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _check_folder(out: Path, inputs: str, force: bool) -> None:
    if force or not out.exists():
        return
    if not out.is_dir():
        raise StoreError(f"{out} is a file", "name a folder with --out")
    if (out / "report.json").exists() and _owner(out) != inputs:
        raise StoreError(
            f"{out} holds the result of another run (other options, model or data)",
            "name another folder with --out, or replace it with --force",
        )
    if any(out.iterdir()) and not (out / "run" / "inputs").exists():
        raise StoreError(
            f"{out} is not empty and holds no run of hwprune",
            "name another folder with --out, or add --force to write into it",
        )


def _owner(out: Path) -> str | None:
    try:
        return (out / "run" / "inputs").read_text()
    except OSError:
        return None


def _clear(folder: Path) -> None:
    """Removes what an earlier run left in its own folder, the lock excepted."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "lock":
            path.unlink()
