"""Reading a file that nobody has vouched for in a process of its own, within time and memory.

The child checks the file and brings it into canonical form; what it writes is all that this process
ever opens. A file that crashes, hangs or fills up one of the libraries ends there.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx_graphsurgeon as gs

from hwprune import errors
from hwprune.errors import HwpruneError, ModelError, UnsafeModelError
from hwprune.graph.read import read_written
from hwprune.graph.safety import MAX_BYTES
from hwprune.graph.shapes import Shape
from hwprune.units import format_bytes

_MODULE = "hwprune.graph.quarantined"
_SECONDS, _SECONDS_PER_BYTE = 120.0, 60 / (1 << 30)
_BYTES, _TIMES_SIZE = 3 << 30, 10  # of address space; the libraries alone take over 1 GiB


def read_untrusted(
    path: Path,
    shapes: Mapping[str, Shape] | None = None,
    batch: int = 1,
    max_bytes: int = MAX_BYTES,
) -> gs.Graph:
    """As `read_graph`, in a child process with limits that follow from the size of the files.

    Raises:
        ModelError: Not readable, not safe or not supported; the subclasses tell which.
        UsageError: An input's shape is missing or wrong.
    """
    size = _size(path)
    seconds, memory = _SECONDS + size * _SECONDS_PER_BYTE, _BYTES + _TIMES_SIZE * size
    with tempfile.TemporaryDirectory(prefix="hwprune-") as folder:
        written = Path(folder) / "canonical.onnx"
        request = {
            "path": str(path),
            "shapes": {name: list(shape) for name, shape in (shapes or {}).items()},
            "batch": batch,
            "out": str(written),
            "memory": memory,
            "max_bytes": max_bytes,
        }
        _ask(path, request, seconds)
        return read_written(written)


def _ask(path: Path, request: dict[str, Any], seconds: float) -> None:
    """Runs the child; what it refused is raised here."""
    try:
        done = subprocess.run(
            # -P: a checkout in the current folder would hide the installed package
            [sys.executable, "-P", "-m", _MODULE],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise UnsafeModelError(f"{path}: reading it took more than {seconds:.0f} s") from error
    if done.returncode == 0:
        return
    try:
        answer = json.loads(done.stdout)
        kind, message, hint = answer["kind"], answer["message"], answer["hint"]
    except (ValueError, KeyError, TypeError):
        raise _crashed(path, done, request["memory"]) from None
    raise _error(kind)(message, hint)


def _error(kind: str) -> type[HwpruneError]:
    found = getattr(errors, kind, ModelError)
    return found if isinstance(found, type) and issubclass(found, HwpruneError) else ModelError


def _crashed(path: Path, done: subprocess.CompletedProcess[str], memory: int) -> HwpruneError:
    if done.returncode < 0:
        ended = f"it was ended by {signal.Signals(-done.returncode).name}"
    else:
        ended = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1][:300]
    return UnsafeModelError(
        f"{path}: reading it failed within {format_bytes(memory)} of memory: {ended}"
    )


def _size(path: Path) -> int:
    """Bytes of the file and of those beside it that may hold its weights."""
    try:
        size = path.stat().st_size
        with os.scandir(path.parent) as found:
            beside = [f.stat().st_size for f in found if f.is_file(follow_symlinks=False)]
    except OSError:
        return 0  # the child says what is wrong
    return max(size, min(sum(beside), 8 << 30))
