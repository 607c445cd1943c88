"""Union-find over channel indices."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]

NONE = -1  # a position that no group may remove


class Channels:
    """Ids of channels, which of them must go together, and which must stay and why."""

    def __init__(self) -> None:
        self._parent: Ids = np.zeros(0, np.int64)
        self._reasons: dict[int, str] = {}

    def fresh(self, count: int) -> Ids:
        """`count` new ids, each in a class of its own."""
        ids = np.arange(len(self._parent), len(self._parent) + count)
        self._parent = np.concatenate([self._parent, ids])
        return ids

    def find(self, ids: Ids) -> Ids:
        """The representative of each id's class; NONE stays NONE."""
        roots = np.array(ids)
        real = roots != NONE
        inner = self._parent[roots[real]]
        while not np.array_equal(above := self._parent[inner], inner):
            inner = above
        self._parent[roots[real]] = inner  # path compression
        roots[real] = inner
        return roots

    def unite(self, first: Ids, second: Ids, reason: str) -> None:
        """Unites `first[i]` with `second[i]`; an id that meets NONE is frozen for `reason`."""
        first, second = np.broadcast_arrays(first, second)
        self.freeze(first[second == NONE], reason)
        self.freeze(second[first == NONE], reason)
        both = (first != NONE) & (second != NONE)
        pairs = np.stack([self.find(first[both]), self.find(second[both])])
        for a, b in np.unique(np.sort(pairs, axis=0), axis=1).T.tolist():
            low, high = sorted((self._root(a), self._root(b)))
            self._parent[high] = low

    def tie(self, grid: Ids, axis: int, reason: str) -> Ids:
        """Unites everything along one axis of `grid`; returns what is left without that axis."""
        first: Ids = np.take(grid, 0, axis)
        self.unite(grid, np.expand_dims(first, axis), reason)
        return first

    def freeze(self, ids: Ids, reason: str) -> None:
        """Marks the classes of `ids` as not removable; the first reason counts."""
        for identity in np.unique(ids[ids != NONE]).tolist():
            self._reasons.setdefault(identity, reason)

    def frozen(self) -> dict[int, str]:
        """Representative -> reason, of every class that must stay."""
        reasons: dict[int, str] = {}
        for root, reason in self._by_root():
            reasons.setdefault(root, reason)
        return reasons

    def _by_root(self) -> Iterator[tuple[int, str]]:
        roots = self.find(np.array(list(self._reasons), np.int64))
        yield from zip(roots.tolist(), self._reasons.values(), strict=True)

    def _root(self, identity: int) -> int:
        while (above := int(self._parent[identity])) != identity:
            identity = above
        return identity
