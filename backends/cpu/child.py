"""Runs the measuring child and reads its answer."""

import json
import subprocess
import sys
import tempfile
from typing import Any

from hwprune.errors import BackendError

_MODULE = "hwprune.backends.cpu.worker"


def ask(request: dict[str, Any], timeout_s: float) -> list[dict[str, Any]]:
    """One request, one child process, one answer.

    Raises:
        BackendError: The child crashed, hung or answered nonsense; with what it printed.
    """
    with tempfile.TemporaryDirectory(prefix="hwprune-") as folder:
        text = json.dumps(request | {"folder": folder}, allow_nan=False)
        try:
            done = subprocess.run(
                [sys.executable, "-m", _MODULE],
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


def _end(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-5:]) or "it printed nothing"
