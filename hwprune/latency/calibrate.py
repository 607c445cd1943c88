"""What whole runs cost beyond the sum of their kernels, learnt from whole runs.

In a network a kernel finds its weights and inputs less warm than alone, and the runtime does a
little between any two. Both are small and alike for all plans of one network: a factor on the rows
of each precision, a time per kernel and one per byte of weights, fitted to measured plans around
the assumption that nothing is missing (Bayesian linear regression with a Gaussian prior).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np

from hwprune.backend import RUN, Kernel

_WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
_SCALE, _PER_KERNEL_NS, _PER_BYTE_NS = 0.1, 1000.0, 0.05  # standard deviations of the prior
_PRECISIONS = ("fp32", "int8")


@dataclass(frozen=True, slots=True)
class Calibration:
    """How the row of a kernel becomes its share of a whole run.

    `factor` corrects what the closed loop has seen since; `spread` is the relative standard
    deviation of measured plans from calibrated ones.
    """

    scale: Mapping[str, float] = field(default_factory=dict)  # precision -> factor
    per_kernel_ns: float = 0.0
    per_byte_ns: float = 0.0
    factor: float = 1.0
    spread: float = 0.0

    def price(self, kernel: Kernel, ns: float) -> float:
        """Nanoseconds that `kernel` adds to a whole run, when its row says `ns`."""
        if kernel == RUN:
            return self.factor * ns
        scaled = self.scale.get(kernel.precision, 1.0) * ns
        extra = self.per_kernel_ns + self.per_byte_ns * weight_bytes(kernel)
        return self.factor * max(0.0, scaled + extra)


def weight_bytes(kernel: Kernel) -> int:
    """Of the weights that a kernel reads."""
    if kernel.op not in _WEIGHTED or len(kernel.inputs) < 2:
        return 0
    if kernel.op == "MatMul" and len(kernel.inputs[1]) > 2:
        return 0
    return prod(kernel.inputs[1]) * (1 if kernel.precision == "int8" else 4)


def calibrate(
    plans: Sequence[Sequence[tuple[Kernel, float]]], measured_ns: Sequence[float]
) -> Calibration:
    """From plans that were timed whole: kernels with the nanoseconds of their rows, per plan."""
    rows = np.array([_terms(plan) for plan in plans])
    calls = np.array([sum(ns for k, ns in plan if k == RUN) for plan in plans])
    target = np.asarray(measured_ns, float)
    prior = np.array([1.0] * len(_PRECISIONS) + [0.0, 0.0])
    deviation = np.array([_SCALE] * len(_PRECISIONS) + [_PER_KERNEL_NS, _PER_BYTE_NS])
    scaled = rows * deviation / target[:, None]
    missed = (target - calls - rows @ prior) / target
    noise = 0.01
    solution = np.linalg.solve(scaled.T @ scaled + noise**2 * np.eye(len(prior)), scaled.T @ missed)
    found = prior + deviation * solution
    left = missed - scaled @ solution
    scale = dict(zip(_PRECISIONS, found[: len(_PRECISIONS)].tolist(), strict=True))
    spread = float(np.sqrt(np.mean(left**2) * len(left) / max(1.0, len(left) - 2.0)))
    return Calibration(scale, float(found[-2]), float(found[-1]), 1.0, spread)


def _terms(plan: Sequence[tuple[Kernel, float]]) -> list[float]:
    run = [(k, ns) for k, ns in plan if k != RUN]
    sums = [sum(ns for k, ns in run if k.precision == p) for p in _PRECISIONS]
    return [*sums, float(len(run)), float(sum(weight_bytes(k) for k, _ in run))]
