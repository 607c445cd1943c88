"""A run is a folder of finished stages: running the same command again skips them."""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hwprune.errors import StoreError
from hwprune.store.files import write_atomic
from hwprune.store.lock import locked

_MANIFEST = "manifest.json"
_LOCK = "lock"
_VERSION = 1


@dataclass(frozen=True, slots=True)
class StageRecord:
    """A finished stage: what it was made from, and its files with their SHA-256."""

    name: str
    inputs: str
    outputs: Mapping[str, str]  # path relative to the run folder -> SHA-256
    seconds: float


class RunFolder:
    """The stages of one run, in `path`; created if absent.

        with RunFolder(out / "run").lock() as run:
            if run.stage("profile", inputs) is None:
                ...
                run.finish("profile", inputs, ["table.json"], seconds)

    Raises:
        StoreError: The folder cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot make {path}: {error.strerror}") from error
        self._stages = self._read()

    @contextlib.contextmanager
    def lock(self) -> Iterator["RunFolder"]:
        """Keeps other processes out. Raises StoreError naming the holder."""
        with locked(self.path / _LOCK):
            self._stages = self._read()
            yield self

    def file(self, name: str) -> Path:
        """Path of a file in the folder."""
        return self.path / name

    def stage(self, name: str, inputs: str) -> StageRecord | None:
        """The finished stage, if it was made from the same inputs and its files are unharmed."""
        record = self._stages.get(name)
        if record is None or record.inputs != inputs:
            return None
        unharmed = all(_sha256(self.file(f)) == digest for f, digest in record.outputs.items())
        return record if unharmed else None

    def finish(self, name: str, inputs: str, outputs: Sequence[str], seconds: float) -> StageRecord:
        """Records a stage as finished; its files are already written.

        Raises:
            StoreError: A file is missing, or the manifest cannot be written.
        """
        digests = {f: _sha256(self.file(f)) for f in outputs}
        if missing := [f for f, digest in digests.items() if digest is None]:
            raise StoreError(f"stage {name} did not write {', '.join(missing)} in {self.path}")
        found = {f: digest for f, digest in digests.items() if digest is not None}
        record = StageRecord(name, inputs, found, seconds)
        self._stages = {**self._stages, name: record}
        self._write()
        return record

    def _write(self) -> None:
        document = {"version": _VERSION, "stages": [asdict(s) for s in self._stages.values()]}
        text = json.dumps(document, indent=1, allow_nan=False) + "\n"
        write_atomic(self.file(_MANIFEST), text.encode())

    def _read(self) -> dict[str, StageRecord]:
        """Finished stages; a manifest that cannot be read means that none is."""
        try:
            document = json.loads(self.file(_MANIFEST).read_bytes())
            if document["version"] != _VERSION:
                return {}
            return {s.name: s for s in map(_record, document["stages"])}
        except (OSError, ValueError, KeyError, TypeError):
            return {}


def digest(*parts: Any) -> str:
    """SHA-256 over JSON-able parts and bytes: names the inputs of a stage."""
    found = hashlib.sha256()
    for part in parts:
        raw = part if isinstance(part, bytes) else _canonical(part)
        found.update(len(raw).to_bytes(8, "big") + raw)
    return found.hexdigest()


def _canonical(part: Any) -> bytes:
    return json.dumps(part, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _record(fields: Any) -> StageRecord:
    outputs = {str(f): str(d) for f, d in fields["outputs"].items()}
    return StageRecord(
        str(fields["name"]), str(fields["inputs"]), outputs, float(fields["seconds"])
    )


def _sha256(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
