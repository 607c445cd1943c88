"""Simpler ways to predict the latency of a plan: what the table has to beat."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from hwprune.backend import Kernel
from hwprune.latency.kernels import KernelGraph
from hwprune.plan import Configuration

PROFILED_RUNS = 20
Array = NDArray[np.float64]


def macs_models(
    network: KernelGraph,
    trials: Sequence[Configuration],
    plans: Sequence[Configuration],
    times: Array,
) -> dict[str, Array]:
    """What two models that know nothing but MACs say, fitted to `trials`."""
    macs, known = (np.array([macs_of(network, c) for c in some], float) for some in (plans, trials))
    line = np.polyfit(known, times, 1, w=1 / times)
    proportional = float(np.median(times / known)) * macs
    return {"proportional to MACs": proportional, "linear in MACs": np.polyval(line, macs)}


def profiler_sums(models: Sequence[bytes], threads: int) -> Array:
    """Nanoseconds of all nodes, medians, as onnxruntime's own profiler has them."""
    return np.array([profiler_sum(model, threads) for model in models])


def profiler_sum(model: bytes, threads: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.enable_profiling = threads, True
        options.profile_file_prefix = f"{folder}/profile"
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        feeds = {i.name: np.ones(i.shape, np.float32) for i in session.get_inputs()}
        for _ in range(PROFILED_RUNS):
            session.run(None, feeds)
        events = json.loads(Path(session.end_profiling()).read_text())
    spent: dict[str, list[float]] = {}
    for event in events:
        if event["name"].endswith("_kernel_time"):
            spent.setdefault(event["name"], []).append(1e3 * event["dur"])
    return float(sum(np.median(times) for times in spent.values()))


def macs_of(network: KernelGraph, c: Configuration) -> int:
    """Multiply-accumulates of a plan."""
    return sum(kernel_macs(k) for k in network.kernels(c.widths, c.dropped, c.kernels))


def kernel_macs(kernel: Kernel) -> int:
    if kernel.op in ("Conv", "Gemm", "MatMul") and len(kernel.inputs) > 1:
        weight = kernel.inputs[1]
        taps = int(np.prod(weight[1:])) if kernel.op == "Conv" else kernel.inputs[0][-1]
        return int(np.prod(kernel.output)) * taps
    return 0
