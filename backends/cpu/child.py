"""Runs the measuring child and reads its answer, line by line."""

import contextlib
import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any

from hwprune.errors import BackendError
from hwprune.store.lock import locked

# -P: a checkout in the current folder would hide the installed, mapped package
_COMMAND = [sys.executable, "-P", "-m", "hwprune.backends.cpu.agent"]
_WAIT_S = 3600.0
_CHUNK = 1 << 16


def ask(
    request: dict[str, Any], timeout_s: float, models: Sequence[bytes] = ()
) -> Iterator[Any]:
    """One request, one child process; yields each line of its answer, decoded, as it comes.

    A caller that stops early, or is interrupted, takes the child along.

    Raises:
        BackendError: The child crashed, hung or answered nonsense; with what it printed.
        StoreError: Another measurement holds this machine for too long.
    """
    with _alone(), tempfile.TemporaryDirectory(prefix="hwprune-") as folder:
        said = Path(folder) / "stderr"
        with said.open("w") as errors:
            pipe = subprocess.PIPE
            child = subprocess.Popen(_COMMAND, stdin=pipe, stdout=pipe, stderr=errors)
        try:
            sizes = {"models": [len(m) for m in models]}
            _tell(child, json.dumps(request | sizes, allow_nan=False), models)
            yield from _answers(child, said, time.monotonic() + timeout_s, timeout_s)
            if status := child.wait():
                raise BackendError(f"measuring failed with status {status}: {_end(said)}")
        finally:
            child.kill()
            child.communicate()


def _tell(child: "subprocess.Popen[bytes]", text: str, models: Sequence[bytes]) -> None:
    if child.stdin is not None:
        with contextlib.suppress(BrokenPipeError):  # it died: its status says so
            child.stdin.write(text.encode() + b"\n")
            child.stdin.writelines(models)
            child.stdin.close()
        child.stdin = None


def _answers(
    child: "subprocess.Popen[bytes]", said: Path, deadline: float, timeout_s: float
) -> Iterator[Any]:
    if child.stdout is None:
        return
    for line in _lines(child.stdout, deadline):
        if line is None:
            raise BackendError(f"onnxruntime did not answer within {timeout_s:.0f} s")
        try:
            yield json.loads(line)
        except ValueError as error:
            raise BackendError(f"the measuring process answered nonsense: {_end(said)}") from error


def _lines(stream: IO[bytes], deadline: float) -> Iterator[bytes | None]:
    """Lines as they come; None when the time is over."""
    waiting = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while True:
            if not selector.select(max(0.0, deadline - time.monotonic())):
                yield None
            found = os.read(stream.fileno(), _CHUNK)
            *whole, waiting = (waiting + found).split(b"\n")
            yield from whole
            if not found:  # an unfinished line is left: the child died, and its status says why
                return


def _alone() -> AbstractContextManager[None]:
    """Two measurements on one machine would slow each other down."""
    return locked(Path(tempfile.gettempdir()) / f"hwprune-measuring-{os.getuid()}.lock", _WAIT_S)


def _end(said: Path) -> str:
    text = said.read_text(errors="replace")
    lines = text.strip().splitlines() or ["it printed nothing"]
    return lines[-1] if "Traceback" in text else "\n".join(lines[-5:])
