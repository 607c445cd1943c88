"""Local search for sums of tables too entangled for exact elimination: cutset conditioning.

A few variables are held, which makes the rest thin enough to be minimised exactly; then others are
held. The sum never rises; it ends where no cut improves on it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from hwprune.search.factors import (
    Elimination,
    Floats,
    Ints,
    Layout,
    Scope,
    eliminate,
    neighbours_of,
)

_CUTS = 4
_THIN = 20_000  # entries of the largest table under a cut: many fast steps beat a few slow ones


@dataclass(frozen=True, slots=True)
class _Cut:
    """The sum over `free` variables when all others are held.

    `gather` picks the free part of every table out of the flat vector, for held options of 0;
    `lengths` are the entries taken per table.
    """

    free: Ints
    elimination: Elimination
    gather: Ints
    lengths: Ints


class CutsetSearch:
    """Minimiser with the interface of `Elimination`, without its guarantee."""

    def __init__(self, layout: Layout, largest: int) -> None:
        self._layout = layout
        self._cuts = _cuts(layout, min(largest, _THIN))

    def minimise(self, flat: Floats) -> Ints:
        """Options (batch x variables) with a low sum for each row of `flat` (batch x length)."""
        return np.stack([self._descend(row) for row in flat])

    def _descend(self, flat: Floats) -> Ints:
        """The best of a few descents: from the first, the last and random options."""
        sizes = np.array(self._layout.sizes, np.int64)
        random = np.random.default_rng(0).integers(0, sizes, (2, len(sizes)))
        starts = (np.zeros_like(sizes), sizes - 1, *random)
        found = [self._sweep(flat, start.copy()) for start in starts]
        return min(found, key=lambda options: self._total(flat, options))

    def _sweep(self, flat: Floats, options: Ints) -> Ints:
        best = np.inf
        while (total := self._total(flat, options)) < best:
            best = total
            for cut in self._cuts:
                options = self._minimise(cut, flat, options)
        return options

    def _minimise(self, cut: _Cut, flat: Floats, options: Ints) -> Ints:
        held = options.copy()
        held[cut.free] = 0
        shift = self._layout.positions(held) - self._layout.starts
        free = flat[cut.gather + np.repeat(shift, cut.lengths)]
        held[cut.free] = cut.elimination.minimise(free[None])[0]
        return held

    def _total(self, flat: Floats, options: Ints) -> float:
        return float(self._layout.totals(flat, options[None])[0])


def _cuts(layout: Layout, largest: int) -> list[_Cut]:
    """Cuts that between them leave every variable free at least once, where that is possible."""
    held_before = [0] * len(layout.sizes)
    found: list[_Cut] = []
    for _ in range(_CUTS):
        held = _choose_held(layout, largest, held_before)
        for v in held:
            held_before[v] += 1
        found.append(_cut(layout, held))
    everything = set(range(len(layout.sizes)))
    never_free = [v for v in everything if held_before[v] == _CUTS]
    return [*found, *(_cut(layout, everything - {v}) for v in never_free)]


def _choose_held(layout: Layout, largest: int, held_before: Sequence[int]) -> set[int]:
    """Eliminates cheapest first; what would grow too large loses its best-connected neighbour."""
    sizes = layout.sizes
    neighbours = neighbours_of(layout.scopes, len(sizes))
    held: set[int] = set()
    while neighbours:
        entries = {v: prod(sizes[u] for u in {v} | around) for v, around in neighbours.items()}
        v = min(entries, key=lambda u: (entries[u], u))
        if entries[v] <= largest:
            eliminate(v, neighbours)
            continue
        out = min(neighbours, key=lambda u: (held_before[u], -len(neighbours[u]), u))
        held.add(out)
        for u in neighbours.pop(out):
            neighbours[u].discard(out)
    return held


def _cut(layout: Layout, held: set[int]) -> _Cut:
    free = [v for v in range(len(layout.sizes)) if v not in held]
    number = {v: i for i, v in enumerate(free)}
    scopes: list[Scope] = []
    gathers: list[Ints] = []
    for scope, start, stride in zip(layout.scopes, layout.starts, layout.strides, strict=True):
        kept = [(v, s) for v, s in zip(scope, stride, strict=True) if v in number]
        scopes.append(tuple(number[v] for v, _ in kept))
        shape = [layout.sizes[v] for v, _ in kept]
        grid = np.indices(shape).reshape(len(kept), prod(shape))
        gathers.append(start + np.array([s for _, s in kept], np.int64) @ grid if kept
                       else np.array([start], np.int64))  # fmt: skip
    elimination = Elimination(scopes, [layout.sizes[v] for v in free])
    lengths = np.array([g.size for g in gathers], np.int64)
    return _Cut(np.array(free, np.int64), elimination, np.concatenate(gathers), lengths)
