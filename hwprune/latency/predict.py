"""Predicted latency of plans, by the thousand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwprune.latency.calibrate import Calibration
from hwprune.latency.estimator import Estimator
from hwprune.plan import Configuration, Plan

_SIGMAS = 2.0
_US = 1e-3

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """Predicted latency in microseconds; the truth is expected between `low` and `high`."""

    low: float
    us: float
    high: float


class Predictor:
    """What one network takes on one target, whatever of it is kept and in which precision.

    Args:
        estimator: With its rows loaded.
        calibration: From whole plans of the same network.
    """

    def __init__(self, estimator: Estimator, calibration: Calibration) -> None:
        self.estimator = estimator
        self.calibration = calibration
        self.variables = tuple(estimator.space.sizes)  # columns of what `estimate_many` takes
        place = {name: i for i, name in enumerate(self.variables)}
        self._times = [_Gather(f.scope, f.table, place) for f in estimator.factors(calibration)]
        self._doubts = [_Gather(f.scope, f.table, place) for f in estimator.variances(calibration)]

    def estimate(self, plan: Plan | Configuration) -> Interval:
        """Of any plan of the network, exact in which kernels run. Raises KeyError for a kernel
        unlike any that was measured.
        """
        c = plan.configuration if isinstance(plan, Plan) else plan
        found = self.estimator.estimate(c, self.calibration)
        low, high = found.interval(_SIGMAS)
        return Interval(low * _US, found.ns * _US, high * _US)

    def estimate_many(self, assignments: NDArray[np.int64]) -> Array:
        """`n x variables` options of the search space -> `n x 3` microseconds: low, middle, high.

        Sums of tables over few variables each, as the search uses them: where precisions or
        layouts change, neighbours are taken to find their inputs as they like them, and kernels
        to err independently, which makes the intervals a little narrower than those of `estimate`.
        """
        columns = np.ascontiguousarray(assignments.T)
        ns = np.sum([gather(columns) for gather in self._times], axis=0)
        variance = np.sum([gather(columns) for gather in self._doubts], axis=0)
        deviation = np.sqrt(variance + (ns * self.calibration.spread) ** 2)
        middle = np.stack([ns - _SIGMAS * deviation, ns, ns + _SIGMAS * deviation], axis=1)
        found: Array = np.maximum(middle, 0.0) * _US
        return found

    def options(self, assignments: Sequence[Mapping[str, int]]) -> NDArray[np.int64]:
        """Assignments of the space as rows for `estimate_many`; what is left out stays whole."""
        sizes = self.estimator.space.sizes
        whole = {v: 0 if v.startswith("kernel:") else n - 1 for v, n in sizes.items()}
        rows = [[{**whole, **a}[v] for v in self.variables] for a in assignments]
        return np.array(rows, np.int64).reshape(-1, len(self.variables))


class _Gather:
    """One table, looked up for many assignments at once."""

    def __init__(self, scope: Sequence[str], table: Array, place: Mapping[str, int]) -> None:
        self._columns = [place[name] for name in scope]
        self._strides = [int(np.prod(table.shape[i + 1 :])) for i in range(table.ndim)]
        self._flat = np.ascontiguousarray(table).reshape(-1)

    def __call__(self, columns: NDArray[np.int64]) -> Array:
        index = np.zeros(columns.shape[1], np.int64)
        for column, stride in zip(self._columns, self._strides, strict=True):
            index += columns[column] * stride
        found: Array = self._flat[index]
        return found


def estimate(plan: Plan | Configuration, predictor: Predictor) -> Interval:
    """Predicted latency of a plan, in microseconds; see `hwprune.predictor`."""
    return predictor.estimate(plan)
