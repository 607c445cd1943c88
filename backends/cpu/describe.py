"""What a machine says of itself. It is sent there, with `facts`: Python 3.8 and onnxruntime do.

Asked with one model, a reordering of four channels into blocks, which tells how large they are.
"""

from __future__ import annotations

import importlib.metadata as metadata
import json
import sys
from typing import Any

from hwprune.backends.cpu import facts

_LEAST = 4  # channels of the reordering: it takes multiples of them only


def main() -> None:
    """Answers on standard output; the runtime's own words go to standard error."""
    request = json.loads(sys.stdin.buffer.readline())
    (size,) = request["models"]
    block = block_size(sys.stdin.buffer.read(size))
    print(json.dumps({**describe(), "block": block}), flush=True)


def describe() -> dict[str, Any]:
    """Facts of the machine and the runtime; the runtime itself is not loaded."""
    return {
        "runtime": runtime(),
        "identity": facts.identity(),
        "conditions": facts.conditions(),
        "cores": facts.usable_cores(),
        "vnni": facts.has_vnni(),
    }


def runtime() -> str | None:
    """Name and version, 'onnxruntime 1.31.1'; None where it is not installed."""
    for package in ("onnxruntime", "onnxruntime-gpu"):
        try:
            return f"onnxruntime {metadata.version(package)}"
        except metadata.PackageNotFoundError:
            continue
    return None


def block_size(reordering: bytes) -> int:
    """Channels per block: 16 with AVX-512, 8 with AVX2, 1 where the runtime blocks nothing."""
    import numpy as np
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(reordering, options, providers=["CPUExecutionProvider"])
        (blocked,) = session.run(None, {"x": np.zeros((1, _LEAST, 1, 1), np.float32)})
    except Exception:  # the runtime's own types; whatever it says, it has no such kernel
        return 1
    return 1 if blocked.shape[1] == _LEAST else int(blocked.shape[1])
