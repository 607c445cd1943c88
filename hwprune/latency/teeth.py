"""What channel counts between the steps of the hardware cost, found by measuring.

Kernels work on blocks of channels. What is left over costs as much as a whole block (a staircase),
or goes through a slower path (teeth, higher than the block they fill). Within one period of the
pattern the cost of the rest hardly depends on how many whole periods come before it, so

    time(c) = intercept + slope * effective(c),  effective(c) = c - r + height[r],  r = c % period

and the heights, in channels, are read off a sweep over channel counts with all else equal.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_PERIODS = (1, 4, 8, 16, 32)
_BETTER = 0.85  # of a shorter period's error, for a longer one to be believed


@dataclass(frozen=True, slots=True)
class Teeth:
    """`heights[r]`: what r channels beyond a multiple of `period` cost, counted in channels."""

    period: int = 1
    heights: tuple[float, ...] = (0.0,)

    def effective(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Channel counts as the hardware works on them."""
        rest = np.asarray(counts % self.period, int)
        found: NDArray[np.float64] = counts - rest + np.array(self.heights)[rest]
        return found


def fit_teeth(times: Mapping[int, float]) -> Teeth:
    """The pattern behind a sweep: nanoseconds by channel count, all else equal.

    The shortest period that predicts a period left out nearly as well as any other does.
    """
    counts = np.array(sorted(times), float)
    ns = np.array([times[int(c)] for c in counts])
    best = Teeth()
    error = _left_out(counts, ns, 1)
    for period in _PERIODS[1:]:
        found = _left_out(counts, ns, period)
        if found < _BETTER * error:
            best, error = _fit(counts, ns, period)[0], found
    return best


def _fit(
    counts: NDArray[np.float64], ns: NDArray[np.float64], period: int
) -> tuple[Teeth, float, float]:
    """The teeth of one period, with the intercept and slope of the whole periods."""
    whole = counts % period == 0
    slope, intercept = np.polyfit(counts[whole], ns[whole], 1)
    slope = max(float(slope), 1e-9)
    heights = [0.0]
    for rest in range(1, period):
        at = counts % period == rest
        extra = ns[at] - (intercept + slope * (counts[at] - rest))
        heights.append(float(np.median(extra)) / slope if at.any() else float(rest))
    return Teeth(period, tuple(heights)), float(intercept), slope


def _left_out(counts: NDArray[np.float64], ns: NDArray[np.float64], period: int) -> float:
    """Median relative error of what one stretch of the sweep says about the other."""
    middle = counts >= (counts[0] + counts[-1]) / 2
    errors: list[NDArray[np.float64]] = []
    for kept in (middle, ~middle):
        if np.sum(counts[kept] % period == 0) < 2:
            return float("inf")
        teeth, intercept, slope = _fit(counts[kept], ns[kept], period)
        seen = np.isin(counts % period, counts[kept] % period)
        guess = intercept + slope * teeth.effective(counts)
        errors.append(np.abs(guess / ns - 1)[~kept & seen])
    return float(np.median(np.concatenate(errors)))


def sweep_counts(narrow: Sequence[int] = (4,)) -> tuple[int, ...]:
    """Counts to measure: two long periods of every count, and further multiples of the steps."""
    return tuple(sorted({*range(1, 65), *(m for s in narrow for m in range(s, 129, 4 * s))}))
