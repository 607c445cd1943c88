"""What changing one or two variables of an assignment does to a sum of tables, all at once.

Everything that depends on the scopes only is an index array made once; a call is a few gathers.
A move is (variable, option); moves to the present option change nothing.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from hwprune.search.factors import Floats, Ints, Layout, scatter_add


class Moves:
    """All single and pairwise moves over the variables of a layout.

    Attributes:
        variable, option: what each move sets (length: the sum of all sizes).
        pair: 2 x n, the pairs of moves of two variables that share a table.
        apart: moves x moves, whether they belong to two variables that share none, so that what
            they change simply adds up.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        sizes = layout.sizes
        self.variable = np.repeat(np.arange(len(sizes)), sizes)
        self.option = np.concatenate([np.arange(s) for s in sizes] or [np.zeros(0, np.int64)])
        self._first = np.cumsum([0, *sizes])
        slots = [(t, v, s) for t, scope in enumerate(layout.scopes)
                 for v, s in zip(scope, layout.strides[t], strict=True)]  # fmt: skip
        self._single = _columns(
            [(t, self._first[v] + i, s) for t, v, s in slots for i in range(sizes[v])], 3
        )
        self._joint, self.pair = self._pair_entries(layout)
        self.apart = self.variable[:, None] != self.variable[None, :]
        self.apart[self.pair[0], self.pair[1]] = self.apart[self.pair[1], self.pair[0]] = False

    def single(self, flat: Floats, present: Ints) -> Floats:
        """Change of the sum by every move."""
        base = self._layout.positions(present)
        table, move, stride = self._single
        there = base[table] + self._shift(move, stride, present)
        count = len(self.variable)
        return scatter_add(move, flat[there] - flat[base[table]], count)

    def pairs(self, flat: Floats, present: Ints, single: Floats) -> Floats:
        """Change of the sum by every pair of moves in `pair`, given what `single` says."""
        base = self._layout.positions(present)
        table, a, stride_a, b, stride_b, number = self._joint
        here = base[table]
        to_a, to_b = self._shift(a, stride_a, present), self._shift(b, stride_b, present)
        excess = flat[here + to_a + to_b] - flat[here + to_a] - flat[here + to_b] + flat[here]
        first, second = self.pair
        joint: Floats = single[first] + single[second]
        return joint + scatter_add(number, excess, len(first))

    def _pair_entries(self, layout: Layout) -> tuple[Ints, Ints]:
        """Rows (table, move, stride, move, stride, pair) and the distinct pairs of moves."""
        blocks: list[Ints] = [np.zeros((5, 0), np.int64)]
        for t, scope in enumerate(layout.scopes):
            slots = sorted(zip(scope, layout.strides[t], strict=True))
            for (v, stride_v), (u, stride_u) in combinations(slots, 2):
                i, j = np.indices((layout.sizes[v], layout.sizes[u])).reshape(2, -1)
                one = np.ones_like(i)
                a, b = i + self._first[v], j + self._first[u]
                blocks.append(np.stack([t * one, a, stride_v * one, b, stride_u * one]))
        rows = np.concatenate(blocks, axis=1)
        count = len(self.variable)
        keys, number = np.unique(rows[1] * count + rows[3], return_inverse=True)
        return np.vstack([rows, number[None]]), np.stack(np.divmod(keys, max(count, 1)))

    def _shift(self, move: Ints, stride: Ints, present: Ints) -> Ints:
        return (self.option[move] - present[self.variable[move]]) * stride


def _columns(rows: Sequence[tuple[int, ...]], width: int) -> Ints:
    return np.array(rows, np.int64).reshape(-1, width).T
