"""Sessions of onnxruntime, and calls of them that can be timed. Sent to whoever measures."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime as ort

_LEVELS = {
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "disable": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}


def timed(call: Callable[[], Any]) -> int:
    """Nanoseconds of one call."""
    start = time.perf_counter_ns()
    call()
    return time.perf_counter_ns() - start


def call_of(session: ort.InferenceSession) -> Callable[[], Any]:
    """A call as programs make it, numpy in and numpy out (7 us; `run_with_ort_values` takes 50 to
    110, by chance).
    """
    outputs = [o.name for o in session.get_outputs()]
    feeds = arrays_of(session)
    return lambda: session.run(outputs, feeds)


def bound_call_of(session: ort.InferenceSession) -> Callable[[], Any]:
    """The leanest call that there is: nothing is copied (3 us)."""
    binding = session.io_binding()
    for name, value in feeds_of(session).items():
        binding.bind_ortvalue_input(name, value)
    for output in session.get_outputs():
        binding.bind_output(output.name)
    return lambda: session.run_with_iobinding(binding)


def share_threads(wanted: dict[str, Any], threads: int) -> bool:
    """Makes a pool of threads for all sessions that are opened from now on, where each with threads
    of its own would take cores from the others: idle threads spin for some 50 ms.
    """
    shared = threads > 1 and bool(wanted.get("spinning", True))
    if shared:
        ort.set_global_thread_pool_sizes(threads, 1)
    return shared


def session_options(
    wanted: dict[str, Any], threads: int, shared: bool = False
) -> ort.SessionOptions:
    """As the target is set up, or with `shared` threads; what is not said is onnxruntime's
    default.
    """
    options = ort.SessionOptions()
    options.use_per_session_threads = not shared
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.enable_cpu_mem_arena = wanted.get("arena", True)
    options.graph_optimization_level = _LEVELS[wanted.get("graph", "all")]
    if not wanted.get("spinning", True):
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def open_session(
    model: bytes, options: ort.SessionOptions, weights: list[Any]
) -> ort.InferenceSession:
    """A session on the CPU; `weights` are [name, numpy type, shape] of tensors to make up."""
    names = [name for name, _, _ in weights]
    values = [ort.OrtValue.ortvalue_from_numpy(made_up(kind, shape)) for _, kind, shape in weights]
    options.add_external_initializers(names, values)
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    session.hwprune_weights = values  # they must outlive it
    return session


def size_of(session: ort.InferenceSession) -> int:
    """Bytes of its weights, and of an input of every kind that it reads."""
    shapes = [(numpy_type(i.type), _shape(i)) for i in session.get_inputs()]
    shapes += [(numpy_type(v.data_type()), v.shape()) for v in session.hwprune_weights]
    return sum(np.dtype(kind).itemsize * int(np.prod(shape)) for kind, shape in shapes)


def arrays_of(session: ort.InferenceSession) -> dict[str, Any]:
    """An input of the right type and shape for each one the session has."""
    return {i.name: made_up(numpy_type(i.type), _shape(i)) for i in session.get_inputs()}


def feeds_of(session: ort.InferenceSession) -> dict[str, Any]:
    """The same as values of the runtime's. Their `numpy()` may be a view of memory that goes when
    they do.
    """
    made = arrays_of(session).items()
    return {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in made}


def _shape(given: Any) -> list[int]:
    """Of an input; what it leaves open is 1."""
    return [n if isinstance(n, int) else 1 for n in given.shape]


def made_up(kind: str, shape: list[int]) -> Any:
    """Values that no operator chokes on: floats between 0.1 and 1, bytes, zeros for indices."""
    rng = np.random.default_rng(0)
    if kind in ("float32", "float16", "float64"):
        return rng.uniform(0.1, 1.0, shape).astype(kind)
    if kind == "uint8":
        return rng.integers(0, 256, shape, dtype=np.uint8)
    if kind == "int8":
        return rng.integers(-63, 64, shape, dtype=np.int8)
    return np.zeros(shape, kind)


def numpy_type(kind: str) -> str:
    """Of the runtime's name of a tensor type."""
    name = kind[len("tensor(") : -1]
    return {"float": "float32", "double": "float64"}.get(name, name)
