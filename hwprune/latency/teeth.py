"""What channel counts between the steps of the hardware cost, found by measuring.

Kernels work on blocks of channels. What is left over costs as much as a whole block (a staircase),
goes through a slower path of its own (teeth, higher than the block they fill), or makes the whole
kernel slower. Within one period of the pattern that hardly depends on how many whole periods come
before, so with r = c % period

    time(c) = (intercept + slope * (c - r + height[r])) * ratio[r]

where either all ratios are 1 or all heights are r, whichever a sweep over channel counts, all else
equal, speaks for.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_PERIODS = (4, 8, 16, 32)
_HIGHEST = 8.0  # teeth, in periods
_BETTER, _NOISE = 0.85, 0.002  # of a simpler pattern's error, for another one to be believed

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Teeth:
    """`heights[r]`: what r channels beyond a multiple of `period` cost, counted in channels;
    `ratios[r]`: by how much they slow the whole kernel down.
    """

    period: int = 1
    heights: tuple[float, ...] = (0.0,)
    ratios: tuple[float, ...] = (1.0,)

    def effective(self, counts: Array) -> Array:
        """Channel counts as the hardware works on them."""
        rest = self._rest(counts)
        found: Array = counts - rest + np.array(self.heights)[rest]
        return found

    def slowdown(self, counts: Array) -> Array:
        """Factor on the time of the whole kernel."""
        found: Array = np.array(self.ratios)[self._rest(counts)]
        return found

    def _rest(self, counts: Array) -> NDArray[np.int64]:
        return np.asarray(counts % self.period, np.int64)


def fit_teeth(times: Mapping[int, float]) -> Teeth:
    """The pattern behind a sweep: nanoseconds by channel count, all else equal.

    The simplest one that tells the times of a stretch left out nearly as well as any other does.
    """
    counts = np.array(sorted(times), float)
    ns = np.array([times[int(c)] for c in counts])
    best, error = Teeth(), _left_out(counts, ns, 1, False)
    for period in _PERIODS:
        for slows in (True, False):
            found = _left_out(counts, ns, period, slows)
            if found < _BETTER * error - _NOISE:
                best, error = _fit(counts, ns, period, slows)[0], found
    return best


def _fit(counts: Array, ns: Array, period: int, slows: bool) -> tuple[Teeth, float, float]:
    """Teeth of one period, with intercept and slope of the whole periods."""
    whole = counts % period == 0
    slope, intercept = (float(x) for x in np.polyfit(counts[whole], ns[whole], 1))
    slope = max(slope, 1e-9)
    heights, ratios = [float(r) for r in range(period)], [1.0] * period
    for rest in range(1, period):
        at = counts % period == rest
        if at.any() and slows:
            ratios[rest] = float(np.median(ns[at] / (intercept + slope * counts[at])))
        elif at.any():
            extra = ns[at] - intercept - slope * (counts[at] - rest)
            height = float(np.median(extra)) / slope
            heights[rest] = min(max(height, rest / 2), _HIGHEST * period)
    return Teeth(period, tuple(heights), tuple(ratios)), intercept, slope


def _left_out(counts: Array, ns: Array, period: int, slows: bool) -> float:
    """Mean relative error of what every other period of the sweep says about the rest."""
    odd = counts // max(period, _PERIODS[0]) % 2 == 1
    errors: list[Array] = []
    for kept in (odd, ~odd):
        if np.sum(counts[kept] % period == 0) < 2:
            return float("inf")
        teeth, intercept, slope = _fit(counts[kept], ns[kept], period, slows)
        seen = np.isin(counts % period, counts[kept] % period)
        guess = (intercept + slope * teeth.effective(counts)) * teeth.slowdown(counts)
        errors.append(np.abs(guess / ns - 1)[~kept & seen])
    return float(np.mean(np.minimum(np.concatenate(errors), 1.0)))


def sweep_counts() -> tuple[int, ...]:
    """Counts to measure: two of the longest periods in full, and the steps of two more."""
    return (*range(1, 65), *range(68, 129, 4))
