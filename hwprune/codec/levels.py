"""Few levels for many weights, by squared error and rate: Lloyd's algorithm.

A level costs weight x (value - level)^2 and a price, which is rate x -ln(share of all values that
have the level): entropy-constrained scalar quantisation (Chou, Lookabaugh and Gray 1989). Without a
rate it is k-means in one dimension.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Reals = NDArray[np.floating[Any]]
Doubles = NDArray[np.float64]
Index = NDArray[np.uint16]
MOST_LEVELS = 1 << 12
_CELLS = 1 << 16  # that many values are summed up into
_LEAST_CELLS = 1 << 10  # for each class of weights
_COARSE = 512  # cells between which the best borders are found
_CHUNK = 1 << 15  # values that a processor holds near by
_MOST_ROUNDS = 200


@dataclass(frozen=True, slots=True)
class Cells:
    """Values that rise, how many elements each is the mean of, and the mean of their weights."""

    values: Reals
    counts: Reals
    weights: Reals

    def grouped(self, groups: NDArray[np.intp]) -> "Cells":
        """The cells of each group as one, in its middle."""
        mass = self.counts * self.weights
        sums = [summed(groups, part) for part in (self.counts, mass, mass * self.values)]
        counts, weights, values = (total[sums[0] > 0] for total in sums)
        order = np.argsort(values / weights, kind="stable")
        return Cells(*(a[order] for a in (values / weights, counts, weights / counts)))


def summed(groups: NDArray[Any], values: Reals, count: int = 0) -> Doubles:
    """The sum of the values of each group, in double precision."""
    found: Doubles = np.bincount(groups, values, count).astype(np.float64)
    return found


def cells(values: Reals, weights: Reals) -> Cells:
    """Of any number of elements: themselves if they are few, or a fine histogram.

    The histogram has cells of equal width, apart for each quarter of an octave of the weights.
    """
    elements = Cells(values, np.ones(values.size, np.float32), weights)
    if values.size <= _CELLS:
        return elements.grouped(np.arange(values.size))
    classes = np.rint(4 * np.log2(weights)).astype(np.intp)
    classes = np.minimum(int(classes.max()) - classes, _CELLS // _LEAST_CELLS - 1)
    width = _CELLS // (1 + int(classes.max()))
    low, high = float(values.min()), float(values.max())
    scale = (width - 1) / max(high - low, 1e-30)
    return elements.grouped(classes * width + ((values - low) * scale).astype(np.intp))


@dataclass(frozen=True, slots=True)
class Levels:
    """Values that elements may have, and what each costs beside its error.

    `fixed`: the first one is zero, stays there, and has so many elements more than the cells.
    """

    values: Doubles
    prices: Doubles
    fixed: int = 0

    def nearest(self, values: Reals, weights: Reals) -> Index:
        """The cheapest level of each value."""
        found = np.zeros(values.size, np.uint16)
        for start in range(0, values.size, _CHUNK):
            part = slice(start, start + _CHUNK)
            self._nearest(values[part], weights[part], found[part])
        return found

    def _nearest(self, values: Reals, weights: Reals, found: Index) -> None:
        least = np.full(values.size, np.inf, values.dtype)
        for i, (level, price) in enumerate(zip(self.values, self.prices, strict=True)):
            cost = values - values.dtype.type(level)
            cost *= cost
            cost *= weights
            cost += values.dtype.type(price)
            better = cost < least
            np.copyto(found, i, where=better)
            np.minimum(cost, least, out=least)

    def objective(self, data: Cells, index: Index) -> float:
        """What the cells cost with these levels, and the elements that are fixed."""
        errors = data.weights * (data.values - self.values[index]) ** 2
        return float(data.counts @ (errors + self.prices[index]) + self.fixed * self.prices[0])

    def updated(self, data: Cells, index: Index, rate: float) -> "Levels":
        """Each level in the middle of its cells, at the price of its share; empty ones dropped."""
        counts = summed(index, data.counts, len(self.values))
        counts[0] += self.fixed
        kept = counts > 0
        prices = -rate * np.log(counts[kept] / counts.sum())
        return Levels(self.middles(data, index)[kept], prices, self.fixed)

    def middles(self, data: Cells, index: Index) -> Doubles:
        """Where the error of the cells of each level is least; an empty one stays."""
        mass = data.counts * data.weights
        sums = summed(index, mass * data.values, len(self.values))
        mass = summed(index, mass, len(self.values))
        found = np.divide(sums, mass, out=self.values.copy(), where=mass > 0)
        if self.fixed:
            found[0] = 0
        return found


def rounds(data: Cells, levels: Levels, rate: float) -> Iterator[tuple[Levels, float]]:
    """Lloyd's rounds: the levels, and the objective with them. It never rises."""
    for _ in range(_MOST_ROUNDS):
        index = levels.nearest(data.values, data.weights)
        yield levels, levels.objective(data, index)
        levels = levels.updated(data, index, rate)


def settled(data: Cells, levels: Levels, rate: float, tolerance: float) -> Levels:
    """The levels, once the objective changes by no more than a share of it."""
    before = np.inf
    for found, objective in rounds(data, levels, rate):
        if before - objective <= tolerance * abs(objective):
            return found
        before, levels = objective, found
    return levels


def best(data: Cells, count: int) -> Doubles:
    """The `count` levels of least squared error, each for a run of cells.

    Exact for up to 512 cells: dynamic programming over where the last run begins (Bellman 1973).
    More are put together first, as densely as levels of a good quantiser lie.
    """
    data = _coarse(data)
    if len(data.values) <= count:
        return data.values.astype(np.float64)
    cost = _costs(data)
    least, begins = cost[0], []
    for _ in range(count - 1):
        total = np.concatenate([[np.inf], least[:-1]])[:, None] + cost
        begins.append(total.argmin(0))
        least = total.min(0)
    runs, stop = np.zeros(len(data.values), np.intp), len(data.values)
    for begin in reversed(begins):
        stop = int(begin[stop - 1])
        runs[stop:] += 1
    return data.grouped(runs).values.astype(np.float64)


def _coarse(data: Cells) -> Cells:
    """At most 512 cells: by the cube root of density (Panter and Dite 1951)."""
    if len(data.values) <= _COARSE:
        return data
    room = np.cbrt(data.counts * data.weights * np.gradient(data.values) ** 2)
    ranks = np.cumsum(room) / room.sum()
    return data.grouped(np.minimum((ranks * _COARSE).astype(np.intp), _COARSE - 1))


def _costs(data: Cells) -> Doubles:
    """Squared error of cells i to j around their mean; infinite where j < i."""
    mass = data.counts * data.weights
    centred = data.values - mass @ data.values / mass.sum()
    sums = [np.cumsum([0, *(mass * centred**power)]) for power in range(3)]
    zeroth, first, second = (total[None, 1:] - total[:-1, None] for total in sums)
    ordered = np.tri(len(mass), dtype=np.bool_).T
    found = np.full(ordered.shape, np.inf)
    spread = second[ordered] - first[ordered] ** 2 / zeroth[ordered]
    found[ordered] = np.maximum(spread, 0)
    return found
