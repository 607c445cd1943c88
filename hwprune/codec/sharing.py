"""Weight sharing: a tensor's values are replaced by a few (arXiv 2108.12704).

A value of exactly zero stays zero in all of them: what was pruned stays pruned.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwprune.codec.levels import (
    MOST_LEVELS,
    Cells,
    Doubles,
    Index,
    Levels,
    Reals,
    best,
    cells,
    settled,
    summed,
)

Values = NDArray[np.float32]
Found = tuple[Reals, Index]  # levels, and which of them each value has
_SEED = 0
_KMEANS, _ECSQ = 1e-5, 1e-3  # changes of the objective that end the rounds
_FINE = 1 << 10  # levels that rate-constrained sharing begins with, at most
_HALVINGS, _WIDER = 40, 1.01


@dataclass(frozen=True, slots=True)
class Codebook:
    """Shared values, the most frequent one first, and the index of each element's."""

    centroids: Values
    index: Index

    @property
    def values(self) -> Values:
        """The elements."""
        return self.centroids[self.index]


def share(values: Values, quantiser: str, amount: float, weights: Reals | float = 1.0) -> Codebook:
    """A codebook for the values of one tensor, or of several that were put together.

    Args:
        values: Of any shape, finite.
        quantiser: A name in `QUANTISERS`.
        amount: How many values there may be, or for `ecsq` how much squared error (times weight)
            one nat less is worth.
        weights: What a squared error counts, positive; broadcast to the values.

    Raises:
        ValueError: So many levels, or such a rate, are not possible.
    """
    least, most = (0.0, np.inf) if quantiser == "ecsq" else (2, MOST_LEVELS)
    if not least <= amount <= most:
        raise ValueError(f"{quantiser} takes {least} to {most}, not {amount}")
    power = int(np.frexp(np.abs(values).max(initial=0))[1])  # near 1 no square is lost
    counted = (np.asarray(weights, np.float64) * 4.0**power).astype(np.float32)
    flat = np.ldexp(values.reshape(-1), -power)
    every = np.broadcast_to(counted, values.shape).reshape(-1)
    levels, index = QUANTISERS[quantiser](flat, every, amount)
    return _ordered(np.ldexp(levels, power), index.reshape(values.shape))


def _ordered(levels: Reals, index: Index) -> Codebook:
    counts = np.bincount(index.reshape(-1), minlength=len(levels))
    order = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
    ranks = np.zeros(len(levels), np.uint16)
    ranks[order] = np.arange(len(order))
    return Codebook(levels[order].astype(np.float32), ranks[index])


def _kmeans(values: Values, weights: Reals, amount: float) -> Found:
    """CWS: least squared error, from the best borders of a coarse histogram."""

    def start(data: Cells, zeros: bool) -> Doubles:
        return best(data, int(amount) - zeros)

    return _lloyd(values, weights, start, 0.0, _KMEANS)


def _ecsq(values: Values, weights: Reals, amount: float) -> Found:
    """Squared error and rate, from even steps: those of least entropy at a high rate.

    There the error of a step s is s^2 / 12, and one nat less makes s e times as large, so that
    s^2 = 6 amount (Gish and Pierce 1968).
    """

    def start(data: Cells, zeros: bool) -> Doubles:
        weight = data.counts @ data.weights / data.counts.sum()
        least = max(float(np.ptp(data.values)) / _FINE, 1e-30)
        step = max(np.sqrt(6 * amount / weight), least)
        found: Doubles = step * np.unique(np.rint(data.values / step))
        return found[found != 0] if zeros else found

    return _lloyd(values, weights, start, amount, _ECSQ)


def _lloyd(
    values: Values,
    weights: Reals,
    start: Callable[[Cells, bool], Doubles],
    rate: float,
    tolerance: float,
) -> Found:
    """From the levels that `start` finds for all that is not zero; zero is one of its own."""
    there = values != 0
    zeros = values.size - int(np.count_nonzero(there))
    data = cells(values[there], weights[there]) if zeros else cells(values, weights)
    levels = start(data, zeros > 0) if zeros < values.size else np.zeros(0)
    levels = np.concatenate([np.zeros(int(zeros > 0)), levels])
    first = Levels(levels, np.zeros(len(levels)), zeros)
    first = first.updated(data, first.nearest(data.values, data.weights), rate)
    found = settled(data, first, rate, tolerance)
    index = found.nearest(values, weights)
    if zeros:
        index[~there] = 0
    return found.middles(Cells(values, np.ones(1, np.float32), weights), index), index


def _probabilistic(values: Values, weights: Reals, amount: float) -> Found:
    """PWS: to either end of an interval between quantiles, at random and without a bias.

    The weights do not matter.
    """
    there = values != 0
    zeros = not there.all()
    shares = np.linspace(0, 1, int(amount) - zeros)
    found = np.quantile(values[there], shares) if there.any() else np.zeros(0)
    ends = np.unique(found.astype(np.float32))
    levels = np.concatenate([np.zeros(int(zeros), np.float32), ends])
    index = np.full(values.size, zeros, np.uint16)
    if len(ends) > 1:
        index[there] = zeros + _rounded(values[there], levels[zeros:])
    index[~there] = 0
    return levels, index


def _rounded(values: Values, ends: Reals) -> NDArray[np.intp]:
    below = np.clip(np.searchsorted(ends, values, side="right") - 1, 0, len(ends) - 2)
    share = (values - ends[below]) / np.diff(ends)[below]
    return below + (np.random.default_rng(_SEED).random(values.size, np.float32) < share)


def _uniform(values: Values, weights: Reals, amount: float) -> Found:
    """UQ: d round((w + b) / d) - b with the least d of at most `amount` levels.

    b is 0, or half a step if that is closer and no value is zero.
    """
    data = cells(values, weights)
    shifts = (0.0, 0.5) if values.all() else (0.0,)
    tried = [(_step(data, shift, int(amount)), shift) for shift in shifts]
    step, shift = min(tried, key=lambda one: _error(data, *one))
    while True:
        ranks = np.rint(values / np.float32(step) + np.float32(shift))
        levels, index = np.unique(ranks, return_inverse=True)
        if len(levels) <= amount:
            return (levels - shift) * step, index.astype(np.uint16)
        step *= _WIDER  # elements of a cell that went different ways


def _step(data: Cells, shift: float, most: int) -> float:
    high = 4 * float(np.abs(data.values).max()) or 1.0
    low = high / 8 / MOST_LEVELS
    for _ in range(_HALVINGS):
        middle = float(np.sqrt(low * high))
        ranks = np.rint(data.values / middle + shift)
        few = 1 + np.count_nonzero(np.diff(ranks)) <= most
        low, high = (low, middle) if few else (middle, high)
    return high


def _error(data: Cells, step: float, shift: float) -> float:
    found = (np.rint(data.values / step + shift) - shift) * step
    return float(data.counts * data.weights @ (data.values - found) ** 2)


QUANTISERS: Mapping[str, Callable[[Values, Reals, float], Found]] = {
    "kmeans": _kmeans,
    "probabilistic": _probabilistic,
    "uniform": _uniform,
    "ecsq": _ecsq,
}


def tuned_centroids(values: Values, index: Index, centroids: Values, moment: Reals) -> Values:
    """Shared values for which the outputs are nearest to what they were, indices as they are.

    The outputs are linear in the values: the normal equations of sum over outputs o of
    (w_o - A_o c)' H (w_o - A_o c), where A_o says which of the values c each element has. A value
    of zero stays.

    Args:
        values: Outputs x columns, or groups of them.
        index: The same.
        centroids: What the indices stand for.
        moment: H, the mean of x x' over inputs x, columns x columns, for each group.
    """
    moment = moment.astype(np.float64)
    count, flat = len(centroids), index.reshape(-1)
    slope = (values - centroids[index].astype(np.float64)) @ moment
    right = summed(flat, slope.reshape(-1), count)
    blocks = (((index == i) @ moment).reshape(-1) for i in range(count))
    normal = np.stack([summed(flat, block, count) for block in blocks])
    free = centroids != 0
    found = centroids.astype(np.float64)
    found[free] += np.linalg.lstsq(normal[np.ix_(free, free)], right[free])[0]
    tuned = found.astype(np.float32)
    change = tuned - centroids.astype(np.float64)
    return tuned if change @ normal @ change <= 2 * change @ right else centroids
