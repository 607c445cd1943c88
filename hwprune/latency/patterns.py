"""The patterns that a sweep over channel counts may show (see `teeth`), and the figures of each."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwprune.latency.teeth import Array, Teeth, raised

_PERIODS = (4, 8, 16, 32)
_SLOW_PERIODS = (1, 4, 8, 16)
_DOUBLINGS = 2  # of the step of a fast path, to the longest stair
_BLOCKS = 4  # stairs of a period whose stairs have heights of their own
_HIGHEST = 16.0  # teeth, in periods

Fit = tuple[Teeth, Callable[[Array], Array]]  # a pattern, and nanoseconds by channel count


@dataclass(frozen=True, slots=True)
class Shape:
    """A pattern without its figures, and what finds them."""

    find: Callable[[Array, Array, Teeth], Fit]
    teeth: Teeth

    def fit(self, counts: Array, ns: Array) -> Fit:
        """The pattern with the figures that nanoseconds by channel count speak for."""
        return self.find(counts, ns, self.teeth)


def staircases() -> tuple[Shape, ...]:
    """A line, and stairs of equal heights."""
    return tuple(Shape(_stairs, teeth) for teeth in (Teeth(), *map(_staircase, _PERIODS)))


def others() -> Iterator[Shape]:
    """Two paths, and teeth, from simple to less so."""
    for step in _PERIODS:
        for stair in (step << times for times in range(_DOUBLINGS + 1)):
            for slow in (p for p in _SLOW_PERIODS if p <= stair):
                whole = _staircase(stair)
                yield Shape(_paths, replace(whole, step=step, slow_heights=(0.0,) * slow))
    yield from (Shape(_teeth, Teeth(period)) for period in _PERIODS)


def finer(shape: Shape, counts: Array, ns: Array) -> Iterator[Shape]:
    """The same pattern with stairs of heights of their own, and a fast path that begins later."""
    teeth = shape.teeth
    if shape.find is _stairs:
        yield from (Shape(_stairs, _staircase(stair, _BLOCKS)) for stair in _PERIODS)
    if shape.find is _paths:
        stairs = (teeth.step << times for times in range(_DOUBLINGS + 1))
        leasts = dict.fromkeys((0, _least(counts, ns, teeth.step)))
        for least, blocks, stair in product(leasts, (1, _BLOCKS), stairs):
            fast = _staircase(stair, blocks)
            found = replace(fast, step=teeth.step, least=least, slow_heights=teeth.slow_heights)
            yield Shape(_paths, found)


def _least(counts: Array, ns: Array, step: int) -> int:
    """The multiple of `step` from which on all are faster than the counts beside them, by more than
    half of what most are (on a logarithmic scale); 0 where all or none are.
    """
    off = counts % step != 0
    on = ~off & (counts < max(counts[off], default=0.0))
    if not on.any():
        return 0
    beside = np.interp(counts[on], counts[off], ns[off]) / ns[on]
    slow = np.flatnonzero(beside < np.sqrt(np.median(beside)))
    first = slow[-1] + 1 if len(slow) else 0
    return int(counts[on][first]) if 0 < first < on.sum() else 0


def _staircase(stair: int, blocks: int = 1) -> Teeth:
    """With stairs that are equally high, so far."""
    period = stair * blocks
    heights = tuple(float(-(-rest // stair) * stair) for rest in range(period))
    return Teeth(period, heights, stair)


def _stairs(counts: Array, ns: Array, shape: Teeth) -> Fit:
    if shape.stair < shape.period:
        shape = _risen(counts, ns, shape)

    def reached(some: Array) -> Array:
        return shape.effective(some, np.zeros(len(some), bool))

    line = _line(reached(counts), ns)

    def guess(some: Array) -> Array:
        return np.asarray(np.polyval(line, reached(some)), np.float64)

    return shape, guess


def _risen(counts: Array, ns: Array, shape: Teeth) -> Teeth:
    """`shape` with stairs as high as the times say, by least squares of relative errors over an
    intercept, whole periods, and each stair but the last, which is a whole period; stairs that the
    times say nothing of stay.
    """
    stairs, last = _stair_of(counts, shape), shape.period // shape.stair
    whole = counts - counts % shape.period + shape.period * (stairs == last)
    seen = [s for s in range(1, last) if np.any(stairs == s)]
    terms = np.stack([np.ones(len(counts)), whole, *(stairs == s for s in seen)], axis=1)
    found = np.linalg.lstsq(terms / ns[:, None], np.ones(len(ns)), rcond=None)[0].tolist()
    slope, most = max(found[1], 1e-9), _HIGHEST * shape.stair
    high = {s: min(max(ns / slope, 0.0), most) for s, ns in zip(seen, found[2:], strict=True)}
    each = zip(_stair_of(np.arange(shape.period), shape), shape.heights, strict=True)
    return replace(shape, heights=tuple(high.get(s, height) for s, height in each))


def _stair_of(counts: NDArray[Any], shape: Teeth) -> NDArray[np.int64]:
    """Which stair of its period a count is on."""
    return np.asarray(-(-(counts % shape.period) // shape.stair), np.int64)


def _paths(counts: Array, ns: Array, shape: Teeth) -> Fit:
    off = shape.slow(counts)
    if shape.stair < shape.period:
        shape = _risen(counts[~off], ns[~off], shape)
    fast = _line(shape.effective(counts[~off], off[~off]), ns[~off])
    slow_heights = _heights(counts[off], ns[off], len(shape.slow_heights))
    slow = _line(raised(counts[off], slow_heights), ns[off])
    alike = np.polyval(fast, shape.effective(counts, np.zeros(len(counts), bool)))
    ratio = max(1.0, float(np.median((ns / alike)[off])))
    found = replace(shape, slow_heights=slow_heights, slowdown=ratio)

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


def _teeth(counts: Array, ns: Array, shape: Teeth) -> Fit:
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
    """Slope and intercept, by relative errors; a level where all counts are the same."""
    if np.ptp(counts) == 0:
        return np.array([0.0, np.sum(1 / ns) / np.sum(1 / ns**2)])
    return np.asarray(np.polyfit(counts, ns, 1, w=1 / ns), np.float64)
