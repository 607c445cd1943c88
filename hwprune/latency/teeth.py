"""What channel counts between the steps of the hardware cost, found by measuring.

Kernels work on blocks of channels, and what is left over costs as much as a whole block (a
staircase) or goes through code of its own (teeth, higher than the block they fill). Within one
period that hardly depends on how many whole periods come before, so with r = c % period

    time(c) = intercept + slope * (c - r + height[r])

Some kernels have a fast path for multiples of a step alone, a staircase with this or a longer
period; all other counts take a slow path, a line or teeth of its own. Whichever a sweep over
channel counts, all else equal, speaks for is believed.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

_PERIODS = (4, 8, 16, 32)
_SLOW_PERIODS = (1, 4, 8, 16)
_DOUBLINGS = 2  # of the step of a fast path, to the longest period of its staircase
_HIGHEST = 16.0  # teeth, in periods
_SIGMAS, _NOISE = 2.0, 0.001  # by which the error must be less for a pattern to be believed

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]
_Fit = tuple["Teeth", Callable[[Array], Array]]  # a pattern, and nanoseconds by channel count


@dataclass(frozen=True, slots=True)
class Teeth:
    """`heights[r]`: what r channels beyond a multiple of `period` cost, counted in channels.

    Counts off `step` take a slow path, about `slowdown` times as long, with heights of its own.
    """

    period: int = 1
    heights: tuple[float, ...] = (0.0,)
    step: int = 1
    slow_heights: tuple[float, ...] = (0.0,)
    slowdown: float = 1.0

    def slow(self, counts: Array) -> Bools:
        """Which counts take the slow path, whatever the kernel's other counts are."""
        found: Bools = counts % self.step != 0
        return found

    def apart(self, counts: Array) -> Bools:
        """Which counts are worth rows of their own: on a slow path, or on teeth that a sweep of
        another kernel tells only roughly.
        """
        if self.heights == _whole(self.period):
            return self.slow(counts)
        found: Bools = counts % self.period != 0
        return found

    def scaled(self, by: float) -> "Teeth":
        """Teeth `by` times as high; stairs stay what they are."""
        stairs = self.heights == _whole(self.period)
        heights = self.heights if stairs else tuple(by * h for h in self.heights)
        return replace(self, heights=heights, slow_heights=tuple(by * h for h in self.slow_heights))

    def effective(self, counts: Array, slow: Bools) -> Array:
        """Channel counts as the hardware works on them, on the slow path where `slow`."""
        fast = _raised(counts, self.heights)
        return np.where(slow & (self.step > 1), _raised(counts, self.slow_heights), fast)


def fit_teeth(times: Mapping[int, float]) -> Teeth:
    """The pattern behind a sweep: nanoseconds by channel count, all else equal.

    The simplest one that no other tells the times of a stretch left out clearly better than.
    """
    counts = np.array(sorted(times), float)
    ns = np.array([times[int(c)] for c in counts])
    best, errors = Teeth(), _left_out(counts, ns, _Shape(_stairs, Teeth()))
    for shape in _shapes():
        found = _left_out(counts, ns, shape)
        if found is not None and (errors is None or _clearly_less(found, errors)):
            best, errors = shape.fit(counts, ns, shape.teeth)[0], found
    return best


def _clearly_less(errors: Array, usual: Array) -> bool:
    """Of errors at the same counts (nan: not told): by a few standard errors of the difference."""
    gain = (usual - errors)[~np.isnan(usual - errors)]
    if not len(gain):
        return False
    return bool(np.mean(gain) > _SIGMAS * np.std(gain) / np.sqrt(len(gain)) + _NOISE)


@dataclass(frozen=True, slots=True)
class _Shape:
    """A pattern without its figures, and what finds them."""

    fit: Callable[[Array, Array, Teeth], _Fit]
    teeth: Teeth


def _shapes() -> Iterator[_Shape]:
    """What may be fitted, from simple to less so."""
    for period in _PERIODS:
        yield _Shape(_stairs, Teeth(period, _whole(period)))
    for step in _PERIODS:
        for period in (step << times for times in range(_DOUBLINGS + 1)):
            for slow in (p for p in _SLOW_PERIODS if p <= period):
                yield _Shape(_paths, Teeth(period, _whole(period), step, (0.0,) * slow))
    for period in _PERIODS:
        yield _Shape(_teeth, Teeth(period))


def _whole(period: int) -> tuple[float, ...]:
    """The heights of a staircase."""
    return (0.0, *(float(period) for _ in range(period - 1)))


def _stairs(counts: Array, ns: Array, shape: Teeth) -> _Fit:
    def reached(some: Array) -> Array:
        return shape.effective(some, np.zeros(len(some), bool))

    line = _line(reached(counts), ns)

    def guess(some: Array) -> Array:
        return np.asarray(np.polyval(line, reached(some)), np.float64)

    return shape, guess


def _paths(counts: Array, ns: Array, shape: Teeth) -> _Fit:
    off = shape.slow(counts)
    fast = _line(shape.effective(counts[~off], off[~off]), ns[~off])
    slow_heights = _heights(counts[off], ns[off], len(shape.slow_heights))
    slow = _line(_raised(counts[off], slow_heights), ns[off])
    alike = np.polyval(fast, shape.effective(counts, np.zeros(len(counts), bool)))
    ratio = max(1.0, float(np.median((ns / alike)[off])))
    found = Teeth(shape.period, shape.heights, shape.step, slow_heights, ratio)

    def guess(some: Array) -> Array:
        off = found.slow(some)
        reached = found.effective(some, off)
        return np.where(off, np.polyval(slow, reached), np.polyval(fast, reached))

    return found, guess


def _heights(counts: Array, ns: Array, period: int) -> tuple[float, ...]:
    """Of a path with an intercept of its own: the lowest rest counts for nothing, and one that the
    sweep does not have for as much as the highest.
    """
    rest = counts % period
    rests = [r for r in range(period) if (rest == r).sum() > 1]
    if period == 1 or not rests:
        return (0.0,) * period
    centred = [
        ((counts - np.mean(counts[rest == r]))[rest == r], (ns - np.mean(ns[rest == r]))[rest == r])
        for r in rests
    ]
    slope = sum(float(c @ n) for c, n in centred) / sum(float(c @ c) for c, _ in centred)
    levels = {r: float(np.mean((ns - slope * (counts - rest))[rest == r])) for r in rests}
    lowest, limit = min(levels.values()), _HIGHEST * period
    heights = {r: min((x - lowest) / max(slope, 1e-9), limit) for r, x in levels.items()}
    return tuple(heights.get(r, max(heights.values())) for r in range(period))


def _teeth(counts: Array, ns: Array, shape: Teeth) -> _Fit:
    period, whole = shape.period, counts % shape.period == 0
    slope, intercept = (float(x) for x in np.polyfit(counts[whole], ns[whole], 1))
    slope = max(slope, 1e-9)
    heights = [float(r) for r in range(period)]
    for rest in range(1, period):
        at = counts % period == rest
        if at.any():
            extra = ns[at] - intercept - slope * (counts[at] - rest)
            heights[rest] = min(max(float(np.median(extra)) / slope, rest / 2), _HIGHEST * period)
    found = Teeth(period, tuple(heights))

    def guess(some: Array) -> Array:
        return intercept + slope * found.effective(some, np.zeros(len(some), bool))

    return found, guess


def _line(counts: Array, ns: Array) -> Array:
    """Slope and intercept, by relative errors."""
    return np.asarray(np.polyfit(counts, ns, 1, w=1 / ns), np.float64)


def _left_out(counts: Array, ns: Array, tried: _Shape) -> Array | None:
    """Relative errors of what every other period of the sweep says about the rest, nan where it
    says nothing; None if it is too short to be halved.
    """
    shape = tried.teeth
    odd = counts // max(shape.period, _PERIODS[0]) % 2 == 1
    errors: Array = np.full(len(counts), np.nan)
    for kept in (odd, ~odd):
        off = shape.slow(counts[kept])
        if np.sum(counts[kept] % shape.period == 0) < 2 or (shape.step > 1 and off.sum() < 2):
            return None
        _, guess = tried.fit(counts[kept], ns[kept], shape)
        told = ~kept & np.isin(counts % shape.period, counts[kept] % shape.period)
        errors[told] = np.minimum(np.abs(guess(counts) / ns - 1), 1.0)[told]
    return errors


def _raised(counts: Array, heights: tuple[float, ...]) -> Array:
    rest = np.asarray(counts % len(heights), np.int64)
    found: Array = counts - rest + np.array(heights)[rest]
    return found


def sweep_counts() -> tuple[int, ...]:
    """Counts to measure: two of the longest periods in full, and the steps of two more."""
    return (*range(1, 65), *range(68, 129, 4))
