"""What changing one or two variables of an assignment does to a sum of tables, all at once.

Everything that depends on the scopes only is an index array made once; a call is a few gathers.
A move is (variable, option); moves to the present option change nothing.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from hwprune.search.factors import Floats, Ints, Layout


class Moves:
    """All single and pairwise moves over the variables of a layout.

    Attributes:
        variable, option: what each move sets (length: the sum of all sizes).
    """

    def __init__(self, layout: Layout) -> None:
        sizes = layout.sizes
        self.variable = np.repeat(np.arange(len(sizes)), sizes)
        self.option = np.concatenate([np.arange(s) for s in sizes] or [np.zeros(0, np.int64)])
        self._first = np.cumsum([0, *sizes])
        slots = [(t, v, s) for t, scope in enumerate(layout.scopes)
                 for v, s in zip(scope, layout.strides[t], strict=True)]  # fmt: skip
        self._starts = np.array(layout.starts, np.int64)
        self._slot = _columns(slots, 3)  # table, variable, stride
        self._single = _columns(
            [(t, self._first[v] + i, s) for t, v, s in slots for i in range(sizes[v])], 3
        )
        self._pair = self._pair_entries(layout)
        self._skip = self.variable[:, None] >= self.variable[None, :]

    def single(self, flat: Floats, present: Ints) -> Floats:
        """Change of the sum by every move."""
        base = self._base(present)
        table, move, stride = self._single
        there = base[table] + self._shift(move, stride, present)
        count = len(self.variable)
        return np.bincount(move, flat[there] - flat[base[table]], minlength=count)

    def pairs(self, flat: Floats, present: Ints, single: Floats) -> Floats:
        """Change of the sum by every pair of moves (moves x moves).

        Each pair stands once, in the upper triangle; everything else is infinite.

        Args:
            single: what `single` says for the same arguments.
        """
        base = self._base(present)
        table, a, stride_a, b, stride_b = self._pair
        here = base[table]
        to_a, to_b = self._shift(a, stride_a, present), self._shift(b, stride_b, present)
        joint = flat[here + to_a + to_b] - flat[here + to_a] - flat[here + to_b] + flat[here]
        count = len(self.variable)
        found = np.bincount(a * count + b, joint, minlength=count * count).reshape(count, count)
        found += single[:, None]
        found += single[None, :]
        found[self._skip] = np.inf
        return found

    def _pair_entries(self, layout: Layout) -> Ints:
        blocks: list[Ints] = []
        for t, scope in enumerate(layout.scopes):
            slots = list(zip(scope, layout.strides[t], strict=True))
            for (v, stride_v), (u, stride_u) in combinations(slots, 2):
                i, j = np.indices((layout.sizes[v], layout.sizes[u])).reshape(2, -1)
                one = np.ones_like(i)
                a, b = i + self._first[v], j + self._first[u]
                if v > u:  # one corner of the symmetric matrix is enough
                    a, b, stride_v, stride_u = b, a, stride_u, stride_v
                blocks.append(np.stack([t * one, a, stride_v * one, b, stride_u * one]))
        return np.concatenate(blocks, axis=1) if blocks else np.zeros((5, 0), np.int64)

    def _base(self, present: Ints) -> Ints:
        """Where in the flat vector each table stands at present."""
        table, variable, stride = self._slot
        offsets = np.bincount(table, stride * present[variable], minlength=len(self._starts))
        return self._starts + offsets.astype(np.int64)

    def _shift(self, move: Ints, stride: Ints, present: Ints) -> Ints:
        return (self.option[move] - present[self.variable[move]]) * stride


def _columns(rows: Sequence[tuple[int, ...]], width: int) -> Ints:
    return np.array(rows, np.int64).reshape(-1, width).T
