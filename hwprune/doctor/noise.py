"""How noisy the machine is right now: one small network timed in turns with itself."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hwprune.backend import Backend, Samples
from hwprune.latency.measure import CONTENDED, UNSTEADY

Level = Literal["steady", "unsteady", "noisy"]

_PROCESSES = 3
_SECONDS = 0.5  # in each
_OWN_CORES = 0.95  # CPU time over wall time from which nobody interfered
_AGREED = 0.03  # spread of process medians up to which they agree
_CHANNELS, _SIZE = 64, 28


@dataclass(frozen=True, slots=True)
class Noise:
    """What one network's times were like, measured as a verdict's times are.

    `p50`, `p90` and `p99` are over `p20_ns`; `cpu_share` is CPU time over wall time of the process
    that got least; `spread` (largest - smallest) / median of the process medians; `twins` how far
    apart the medians of the same file, timed as two, were at most; `drift` the second half of a
    process over its first, less one. `throttled` and `stolen_s`: what the machine counted in the
    meantime, None where it does not.
    """

    runs: int
    p20_ns: float
    p50: float
    p90: float
    p99: float
    cpu_share: float
    spread: float
    twins: float
    drift: float
    throttled: float | None = None
    stolen_s: float | None = None

    @property
    def resolution(self) -> float:
        """The relative difference that cannot be told from noise."""
        return max(self.spread, self.twins)

    @property
    def level(self) -> Level:
        """By the gates that a measurement has to pass."""
        if self.cpu_share < CONTENDED or self.resolution > UNSTEADY or self.throttled:
            return "noisy"
        agreed = self.cpu_share >= _OWN_CORES and self.resolution <= _AGREED
        return "steady" if agreed else "unsteady"


def measure_noise(backend: Backend, threads: int) -> Noise:
    """Takes some three seconds. Raises BackendError."""
    before = backend.conditions()
    with tempfile.TemporaryDirectory(prefix="hwprune-") as folder:
        path = Path(folder) / "convolution.onnx"
        path.write_bytes(_network().SerializeToString())
        one, other = backend.time_models([path, path], threads, _SECONDS, _PROCESSES)
    after = backend.conditions()
    grown = {name: _grown(before.get(name), after.get(name)) for name in ("throttled", "stolen_s")}
    return summarise(one, other, **grown)


def summarise(
    one: Samples, other: Samples, throttled: float | None = None, stolen_s: float | None = None
) -> Noise:
    """The figures of one file timed as two; every process has runs of both."""
    runs = np.concatenate([np.array(r, float) for r in one.runs_ns + other.runs_ns])
    p20, p50, p90, p99 = (float(p) for p in np.percentile(runs, (20, 50, 90, 99)))
    medians, twins = (np.array([np.median(r) for r in s.runs_ns]) for s in (one, other))
    return Noise(
        runs=len(runs),
        p20_ns=p20,
        p50=p50 / p20,
        p90=p90 / p20,
        p99=p99 / p20,
        cpu_share=min(one.cpu_share + other.cpu_share),
        spread=float(np.ptp(medians) / np.median(medians)),
        twins=float(np.abs(twins / medians - 1).max()),
        drift=float(np.median([_drift(r) for r in one.runs_ns + other.runs_ns])),
        throttled=throttled,
        stolen_s=stolen_s,
    )


def _drift(runs: tuple[int, ...]) -> float:
    middle = len(runs) // 2
    return float(np.median(runs[middle:]) / np.median(runs[:middle] or runs)) - 1


def _grown(before: str | None, after: str | None) -> float | None:
    """By how much a counter did, None unless it can be read."""
    try:
        return float(after or "") - float(before or "")
    except ValueError:
        return None


def _network() -> onnx.ModelProto:
    """One 3x3 convolution: half a millisecond to a few, and all of it arithmetic."""
    shape = (1, _CHANNELS, _SIZE, _SIZE)
    value = helper.make_tensor_value_info
    weight = np.full((_CHANNELS, _CHANNELS, 3, 3), 0.01, np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], name="conv", pads=[1] * 4)],
        "convolution",
        [value("x", TensorProto.FLOAT, shape)],
        [value("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(weight, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
