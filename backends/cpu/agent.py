"""The process that measures: a request on stdin, a line of JSON per answer on stdout.

Self-contained: the standard library, numpy, onnxruntime and the modules sent with it, so that it
runs on other machines. A crash or hang of the runtime ends here and never takes the compiler along.
Times are taken with the garbage collector off and the inputs made beforehand; the number of warm-up
runs is fixed.

A request is one line of JSON; `models` in it are the sizes of the model files that follow as bytes.
"""

from __future__ import annotations

import base64
import gc
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import onnxruntime as ort
from hwprune.backends.cpu.sessions import feeds_of, numpy_type, open_session, session_options
from hwprune.backends.cpu.turns import files
from hwprune.backends.cpu.visits import chains

_LARGE = 1 << 15  # bytes from which on a tensor is left out of an optimised model


def main() -> None:
    """Answers the request on stdin; the runtime's own messages go to stderr."""
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    request = json.loads(sys.stdin.buffer.readline())
    models = [sys.stdin.buffer.read(size) for size in request.pop("models", [])]
    ort.set_default_logger_severity(4)
    gc.disable()
    for line in _TASKS[request.pop("task")](models, **request):
        print(json.dumps(line), file=answer, flush=True)


def optimise(
    models: list[bytes], weights: list[Any], threads: int, options: dict[str, Any] | None = None
) -> Iterator[Any]:
    """[index, optimised model in base64, large tensors left out], or [index, None] if refused."""
    for index, (model, names) in enumerate(zip(models, weights)):
        try:
            with tempfile.TemporaryDirectory(prefix="hwprune-") as folder:
                found = _optimised(model, names, options or {}, threads, folder)
            yield [index, base64.b64encode(found).decode()]
        except Exception as error:
            print(error, file=sys.stderr)
            yield [index, None]


def _optimised(
    model: bytes, weights: list[Any], wanted: dict[str, Any], threads: int, folder: str
) -> bytes:
    path = os.path.join(folder, "optimised.onnx")
    options = session_options(wanted, threads)
    options.optimized_model_filepath = path
    prefix = "session.optimized_model_external_initializers_"
    options.add_session_config_entry(prefix + "file_name", "weights.bin")
    options.add_session_config_entry(prefix + "min_size_in_bytes", str(_LARGE))
    open_session(model, options, weights)
    with open(path, "rb") as file:
        return file.read()


def shapes(models: list[bytes], weights: list[Any], threads: int) -> Iterator[Any]:
    """[index, {output: [type, shape]}] of models run as they are."""
    for index, (model, names) in enumerate(zip(models, weights)):
        try:
            session = open_session(model, session_options({"graph": "disable"}, threads), names)
            outputs = [o.name for o in session.get_outputs()]
            values = session.run_with_ort_values(outputs, feeds_of(session))
            kinds = [numpy_type(v.data_type()) for v in values]
            yield [index, {n: [k, v.shape()] for n, k, v in zip(outputs, kinds, values)}]
        except Exception as error:
            print(error, file=sys.stderr)
            yield [index, None]


_TASKS: dict[str, Any] = {
    "optimise": optimise,
    "shapes": shapes,
    "chains": chains,
    "files": files,
}

if __name__ == "__main__":
    main()
