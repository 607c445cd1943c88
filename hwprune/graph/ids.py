"""Union-find over channel indices, and positions that go as soon as one of several channels does.

An array of ids is `positions x k`: a position goes when any of its ids does. NONE fills up; a row
of nothing else is a position that may not go. Where an axis of channels is cut in two (heads x
width of a head), its ids are refined: channel (h, d) goes with head h, or with dimension d.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]

NONE = -1  # no id: fills up the rows of an array


class Channels:
    """Ids of channels, which of them must go together, and which must stay and why."""

    def __init__(self) -> None:
        self._parent: Ids = np.zeros(0, np.int64)
        self._parts: dict[int, tuple[int, ...]] = {}  # of a refined class: it goes with any of them
        self._reasons: dict[int, str] = {}

    def fresh(self, count: int) -> Ids:
        """`count x 1` new ids, each in a class of its own."""
        ids = np.arange(len(self._parent), len(self._parent) + count)
        self._parent = np.concatenate([self._parent, ids])
        return ids[:, None]

    def find(self, ids: Ids) -> Ids:
        """The representatives of the ids' classes, refined ones by their parts, in sorted rows."""
        roots = self._roots(ids)
        while self._parts and (known := self._refined(roots)):
            roots = self._roots(_replaced(roots, known))
        return sets(roots)

    def unite(self, first: Ids, second: Ids, reason: str) -> None:
        """Position i of both goes together; what meets a position that stays is frozen."""
        a, b = self.find(first), self.find(second)
        rows = np.broadcast_shapes(a.shape[:1], b.shape[:1])
        pairs = [np.broadcast_to(x, (*rows, x.shape[1])) for x in (a, b)]
        for row in np.unique(np.concatenate(pairs, 1), axis=0).tolist():
            self._unite_sets(row[: a.shape[1]], row[a.shape[1] :], reason)

    def tie(self, grid: Ids, reason: str) -> Ids:
        """Unites everything along the first axis of `count x positions x k`; returns one of it."""
        wide = grid.shape[2]
        first = np.broadcast_to(grid[0], grid[1:].shape)  # all at once: most positions are alike
        self.unite(first.reshape(-1, wide), grid[1:].reshape(-1, wide), reason)
        return self.find(grid[0])

    def refine(self, ids: Ids, sizes: Sequence[int]) -> list[Ids]:
        """Cuts an axis of single, distinct ids into a grid of `sizes`; the ids along its axes."""
        axes = [self.fresh(size) for size in sizes]
        places = np.unravel_index(np.arange(len(ids)), sizes)
        parts = np.concatenate([axis[at] for axis, at in zip(axes, places, strict=True)], 1)
        for root, row in zip(self.find(ids)[:, 0].tolist(), parts.tolist(), strict=True):
            self._parts[root] = tuple(row)
        return axes

    def freeze(self, ids: Ids, reason: str) -> None:
        """Marks the classes of `ids` as not removable; the first reason counts."""
        for identity in np.unique(ids[ids != NONE]).tolist():
            self._reasons.setdefault(identity, reason)

    def frozen(self) -> dict[int, str]:
        """Representative -> reason, of every class that must stay."""
        reasons: dict[int, str] = {}
        for identity, reason in self._reasons.items():
            for root in self._members([identity]):
                reasons.setdefault(root, reason)
        return reasons

    def _unite_sets(self, first: Sequence[int], second: Sequence[int], reason: str) -> None:
        one, other = self._members(first), self._members(second)
        a, b = sorted(one - other), sorted(other - one)
        if not a or not b:  # nothing, or what could go on one side only
            self.freeze(np.array([*a, *b], np.int64), reason)
        elif len(a) == 1 < len(b):
            self._parts[a[0]] = tuple(b)
        elif len(b) == 1 < len(a):
            self._parts[b[0]] = tuple(a)
        else:  # grids alike are numbered alike; those that are not end up in one class
            most = max(len(a), len(b))
            for i in range(most):
                self._union(a[min(i, len(a) - 1)], b[min(i, len(b) - 1)])

    def _union(self, first: int, second: int) -> None:
        low, high = sorted((self._root(first), self._root(second)))
        self._parent[high] = low

    def _members(self, ids: Iterable[int]) -> set[int]:
        """Representatives of all ids, refined ones by their parts."""
        found: set[int] = set()
        for root in {self._root(i) for i in ids if i != NONE}:
            found |= self._members(self._parts[root]) if root in self._parts else {root}
        return found

    def _root(self, identity: int) -> int:
        while (above := int(self._parent[identity])) != identity:
            identity = above
        return identity

    def _roots(self, ids: Ids) -> Ids:
        roots = np.array(ids)
        real = roots != NONE
        inner = self._parent[roots[real]]
        while not np.array_equal(above := self._parent[inner], inner):
            inner = above
        self._parent[roots[real]] = inner  # path compression
        roots[real] = inner
        return roots

    def _refined(self, roots: Ids) -> dict[int, tuple[int, ...]]:
        return {r: self._parts[r] for r in np.unique(roots).tolist() if r in self._parts}


def sets(ids: Ids) -> Ids:
    """Every row sorted, each id once, NONE behind; no wider than the longest row needs."""
    if ids.shape[1] == 1:
        return ids
    last = np.iinfo(np.int64).max
    rows = np.sort(np.where(ids == NONE, last, ids), axis=1)
    rows[:, 1:][rows[:, 1:] == rows[:, :-1]] = last
    rows = np.sort(rows, axis=1)
    wide = max(1, int(np.max(np.sum(rows != last, axis=1), initial=1)))
    return np.where(rows == last, NONE, rows)[:, :wide]


def widened(ids: Ids, wide: int) -> Ids:
    """The same ids with `wide` columns."""
    return np.pad(ids, ((0, 0), (0, wide - ids.shape[1])), constant_values=NONE)


def _replaced(roots: Ids, known: dict[int, tuple[int, ...]]) -> Ids:
    """Each of the `known` replaced by its parts, side by side."""
    values, inverse = np.unique(roots, return_inverse=True)
    table = np.full((len(values), max(map(len, known.values()))), NONE)
    table[:, 0] = values
    for i, value in enumerate(values.tolist()):
        if value in known:
            table[i, : len(known[value])] = known[value]
    return table[inverse.reshape(roots.shape)].reshape(len(roots), -1)
