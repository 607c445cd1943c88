"""Runs the measuring child and reads its answer."""

import json
import os
import subprocess
import sys
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from hwprune.errors import BackendError
from hwprune.store.lock import locked

_MODULE = "hwprune.backends.cpu.worker"
_WAIT_S = 3600.0


def ask(request: dict[str, Any], timeout_s: float) -> list[dict[str, Any]]:
    """One request, one child process, one answer.

    Raises:
        BackendError: The child crashed, hung or answered nonsense; with what it printed.
        StoreError: Another measurement holds this machine for too long.
    """
    with _alone(), tempfile.TemporaryDirectory(prefix="hwprune-") as folder:
        text = json.dumps(request | {"folder": folder}, allow_nan=False)
        try:
            done = subprocess.run(
                # -P: a checkout in the current folder would hide the installed, mapped package
                [sys.executable, "-P", "-m", _MODULE],
                input=text,
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise BackendError(f"onnxruntime did not answer within {timeout_s:.0f} s") from error
    if done.returncode:
        raise BackendError(f"measuring failed with status {done.returncode}: {_end(done.stderr)}")
    try:
        answer: list[dict[str, Any]] = json.loads(done.stdout)
    except ValueError as error:
        raise BackendError(
            f"the measuring process answered nonsense: {_end(done.stderr)}"
        ) from error
    return answer


def _alone() -> AbstractContextManager[None]:
    """Two measurements on one machine would slow each other down."""
    return locked(Path(tempfile.gettempdir()) / f"hwprune-measuring-{os.getuid()}.lock", _WAIT_S)


def _end(text: str) -> str:
    lines = text.strip().splitlines() or ["it printed nothing"]
    return lines[-1] if "Traceback" in text else "\n".join(lines[-5:])
