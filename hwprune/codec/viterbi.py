"""The best paths through the trellis of `hwprune.codec.decoder.trellis`, by rate and distortion.

Grid 0 has its points at whole steps k, grid 1 at k - sign(k) / 2, so that both have a zero
(dependent quantisation, Schwarz et al. 2019). A path costs, summed over its elements,

    weight (value - point)^2 + price bits(k, grid),

and the Viterbi algorithm finds the cheapest one: of the two ways into a state the cheaper one is
kept (Forney 1973). Bits are those of a geometric distribution beside a zero: with a Laplacian of
mean magnitude m, |x| < 1/2 (grid 0) or 1/4 (grid 1) is zero, and k costs log2(e) / m more than
k - 1.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32]
Numbers = NDArray[np.int32]
Grids = NDArray[np.int8]
_ZEROS = (np.float32(0.5), np.float32(0.25))  # where a grid's zero ends, in steps
_LEAST = np.float32(0.08)  # steps: a smaller mean magnitude is taken for this one
_SLAB = 1 << 20  # elements that are looked at at a time
_STATES = np.arange(8)  # 4 (grid two before) + 2 (grid before) + grid
_ODD = _STATES >> 2 ^ _STATES >> 1  # whether an even k leads to grid 1, in its lowest bit
_BRANCHES = (2 * (_STATES[:, None] & 1) + ((_ODD[:, None] ^ [0, 1]) & 1)).reshape(-1)


class Elements(NamedTuple):
    """What paths are to meet: lines x elements.

    `values` are in steps, `sizes` their mean magnitudes, `weights` of their squared errors.
    """

    values: Values
    sizes: Values
    weights: Values

    def runs(self, run: int, longest: int) -> tuple["Elements", NDArray[np.intp]]:
        """Each line cut into runs, filled up to the longest there are: longest x runs; and how many
        elements each has.
        """
        lines, length = self.values.shape
        starts = np.arange(0, length, run)
        parts = (_cut(a, run, longest) for a in self)
        return Elements(*parts), np.tile(np.minimum(length - starts, run), lines)

    def some(self, runs: slice) -> "Elements":
        """Those of some runs."""
        return Elements(*(np.ascontiguousarray(a[:, runs]) for a in self))


def _cut(lines: Values, run: int, longest: int) -> Values:
    """Lines x elements as longest x runs."""
    missing = -lines.shape[1] % run
    padded = np.pad(lines, [(0, 0), (0, missing)], "edge") if missing else lines
    runs = padded.reshape(-1, run)
    return (np.pad(runs, [(0, 0), (0, longest - run)], "edge") if longest > run else runs).T


def best_paths(given: Sequence[Elements], price: float, runs: Sequence[int]) -> list[Numbers]:
    """The cheapest paths as 2 k + grid, lines x elements.

    Args:
        given: What they are to meet; all of it is looked at side by side.
        price: Of a bit.
        runs: For each of them, after how many elements a line begins anew.
    """
    longest = max(runs)
    cut, lengths = zip(
        *(one.runs(run, longest) for one, run in zip(given, runs, strict=True)), strict=True
    )
    joined = cut[0] if len(cut) == 1 else Elements(*(np.hstack(p) for p in zip(*cut, strict=True)))
    found = _all_paths(joined, np.concatenate(lengths), np.float32(price))
    ends = np.cumsum([len(own) for own in lengths])
    return [
        part[:, :run].reshape(len(one.values), -1)[:, : one.values.shape[1]]
        for one, run, part in zip(given, runs, np.split(found, ends[:-1]), strict=True)
    ]


def _all_paths(given: Elements, lengths: NDArray[np.intp], price: np.float32) -> Numbers:
    """Runs x elements."""
    length, runs = given.values.shape
    found, each = np.empty((runs, length), np.int32), max(1, _SLAB // length)
    for start in range(0, runs, each):
        slab = slice(start, start + each)
        found[slab] = _paths(given.some(slab), lengths[slab], price).T
    return found


def _paths(given: Elements, lengths: NDArray[np.intp], price: np.float32) -> Numbers:
    """Elements x runs."""
    costs, numbers = _branches(given, price)
    if lengths.min() < len(costs):
        beyond = np.arange(len(costs))[:, None] >= lengths
        costs.swapaxes(1, 2)[beyond] = 0
    states = _states(costs)
    branches = _BRANCHES[2 * states[:-1] + (states[1:] & 1)]
    taken = np.take_along_axis(numbers, branches[:, None], 1)[:, 0]
    found: Numbers = 2 * np.where(given.values < 0, -taken, taken) + (states[:-1] & 1)
    return found


def _branches(given: Elements, price: np.float32) -> tuple[Values, Numbers]:
    """Costs and numbers (without signs) of the best point of each branch, 2 grid + parity of k:
    elements x branches x runs.
    """
    size, weight, mean = np.abs(given.values), given.weights, np.maximum(given.sizes, _LEAST)
    slope = np.float32(np.log2(np.e)) / mean
    tail, pull = 1 - np.log2(1 - np.exp(-1 / mean)), price * slope / (2 * weight)
    shape = (len(size), 4, size.shape[1])
    costs, numbers = np.empty(shape, np.float32), np.empty(shape, np.int32)
    for branch, (grid, odd) in enumerate(np.ndindex(2, 2)):
        half, first = np.float32(grid / 2), tail + _ZEROS[grid] * slope
        pairs = np.maximum(np.rint((size - pull + (half - np.float32(odd))) / 2), 1 - odd)
        k = 2 * pairs + np.float32(odd)
        cost = weight * np.square(size - (k - half)) + price * (first + slope * (k - 1))
        if not odd:
            none = weight * size * size - price * np.log2(1 - np.exp(-_ZEROS[grid] / mean))
            k[none <= cost] = 0
            cost = np.minimum(none, cost)
        costs[:, branch], numbers[:, branch] = cost, k
    return costs, numbers


def _states(costs: Values) -> NDArray[np.int8]:
    """The states of the cheapest paths, (elements + 1) x runs."""
    length, _, runs = costs.shape
    later = np.empty((length, 8, runs), np.bool_)  # whether a state is reached from the upper four
    best, total = np.full((8, runs), np.inf, np.float32), np.empty((8, 2, runs), np.float32)
    best[0] = 0
    flat, half = total.reshape(16, runs), total.reshape(2, 8, runs)
    for i in range(length):
        costs[i].take(_BRANCHES, 0, out=flat, mode="clip")
        np.add(total, best[:, None], out=total)
        np.less(half[1], half[0], out=later[i])
        np.minimum(half[0], half[1], out=best)
    found = np.empty((length + 1, runs), np.int8)
    found[length] = state = best.argmin(0)
    each = np.arange(runs)
    for i in range(length - 1, -1, -1):
        state = (state >> 1) + 4 * later[i].reshape(-1).take(state * runs + each)
        found[i] = state
    return found
