"""What whole runs cost beyond the sum of their kernels, learnt from whole runs.

In a network a kernel finds its weights and inputs less warm than alone, the runtime does a little
between any two, and neighbours slow some kinds of kernels down more than others. All of it is alike
for all plans of one network: a factor on all, one on the rows of each precision and of each class,
a time per kernel and one per byte of weights, fitted to measured plans around the assumption that
nothing but the common factor is missing (Bayesian linear regression with a Gaussian prior).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import prod

import numpy as np
from numpy.typing import NDArray

from hwprune.backend import RUN, Kernel
from hwprune.latency.family import class_of
from hwprune.precision import bytes_per_weight

_WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
# Standard deviations of the prior, and of a measured plan. What only moves data finds in a network
# that others have used the caches, and takes up to twice as long as over and over alone.
_SCALE, _PER_KERNEL_NS, _PER_BYTE_NS, _NOISE = 0.1, 1000.0, 0.05, 0.01
_MOVING_SCALE = 0.5
_MOVING = {"QuantizeLinear", "DequantizeLinear", "Transpose", "ReorderInput", "ReorderOutput"}

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Calibration:
    """How the row of a kernel becomes its share of a whole run.

    `factor` also holds what the closed loop has seen since; `spread` is the relative standard
    deviation of measured plans from calibrated ones.
    """

    scale: Mapping[str, float] = field(default_factory=dict)  # precision or class -> factor
    per_kernel_ns: float = 0.0
    per_byte_ns: float = 0.0
    factor: float = 1.0
    spread: float = 0.0

    def price(self, kernel: Kernel, ns: float) -> float:
        """Nanoseconds that `kernel` adds to a whole run, when its row says `ns`."""
        if kernel == RUN:
            return self.factor * ns
        own = self.scale.get(class_name(kernel), 1.0)
        scaled = self.scale.get(kernel.precision, 1.0) * own * ns
        extra = self.per_kernel_ns + self.per_byte_ns * weight_bytes(kernel)
        return self.factor * max(0.0, scaled + extra)


@lru_cache(1 << 16)
def class_name(kernel: Kernel) -> str:
    """Of the kernels that are scaled together."""
    return "/".join(class_of(kernel, "")[:4])


def weight_bytes(kernel: Kernel) -> float:
    """Of the weights that a kernel reads."""
    if kernel.op not in _WEIGHTED or len(kernel.inputs) < 2:
        return 0
    if kernel.op == "MatMul" and len(kernel.inputs[1]) > 2:
        return 0
    return prod(kernel.inputs[1]) * bytes_per_weight(kernel.precision)


def calibrate(
    plans: Sequence[Sequence[tuple[Kernel, float]]], measured_ns: Sequence[float]
) -> Calibration:
    """From plans that were timed whole: kernels with the nanoseconds of their rows, per plan."""
    sums = np.array([sum(ns for _, ns in plan) for plan in plans])
    factor = float(np.median(np.asarray(measured_ns, float) / sums))
    target: Array = np.asarray(measured_ns, np.float64) / factor
    names = sorted({name for plan in plans for k, _ in plan if k != RUN for name in _names(k)})
    deviation = np.array([*map(_deviation, names), _PER_KERNEL_NS, _PER_BYTE_NS])
    terms = np.array([_terms(plan, names) for plan in plans]) * deviation / target[:, None]
    missed = (target - sums) / target
    found, left = _regressed(terms, missed)
    changes = dict(zip(names, (found * deviation)[:-2].tolist(), strict=True))
    spread = float(np.sqrt(np.mean(left**2) * len(left) / max(1.0, len(left) - 2.0)))
    more = (found * deviation)[-2:].tolist()
    return Calibration(_factors(changes, plans), more[0], more[1], factor, spread)


def _regressed(terms: Array, missed: Array) -> tuple[Array, Array]:
    """Weights around 0 of `plans x terms`, and what they leave over of each plan."""
    precision = terms.T @ terms + _NOISE**2 * np.eye(terms.shape[1])
    found = np.asarray(np.linalg.solve(precision, terms.T @ missed), np.float64)
    return found, missed - terms @ found


def _deviation(name: str) -> float:
    """Of the change of a precision's or class's rows, by the prior."""
    return _MOVING_SCALE if name.split("/")[0] in _MOVING else _SCALE


def _names(kernel: Kernel) -> tuple[str, str]:
    return kernel.precision, class_name(kernel)


def _terms(plan: Sequence[tuple[Kernel, float]], names: Sequence[str]) -> list[float]:
    run = [(k, ns) for k, ns in plan if k != RUN]
    sums = dict.fromkeys(names, 0.0)
    for kernel, ns in run:
        for name in _names(kernel):
            sums[name] += ns
    return [*sums.values(), float(len(run)), float(sum(weight_bytes(k) for k, _ in run))]


def _factors(
    changes: Mapping[str, float], plans: Sequence[Sequence[tuple[Kernel, float]]]
) -> dict[str, float]:
    """Changes of precision and class add up; factors multiply."""
    pairs = {_names(k) for plan in plans for k, _ in plan if k != RUN}
    found = {precision: 1 + changes[precision] for precision, _ in pairs}
    return found | {n: (1 + changes[p] + changes[n]) / (1 + changes[p]) for p, n in sorted(pairs)}
