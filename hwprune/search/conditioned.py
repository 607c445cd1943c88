"""A problem with some variables fixed: fewer variables, smaller tables, all in flat vectors."""

from collections.abc import Mapping, Sequence

import numpy as np

from hwprune.search.cutset import CutsetSearch
from hwprune.search.factors import Elimination, Floats, Ints, Layout, Scope, scatter_add
from hwprune.search.moves import Moves
from hwprune.search.problem import Assignment, Factor, Problem

LARGEST_TABLE = 2_000_000  # entries; above it the exact minimiser would need seconds a call
_BATCH_ENTRIES = 4_000_000


class Structure:
    """What depends on which variables are fixed, but not on the options they are fixed at."""

    def __init__(
        self, problem: Problem, fixed: frozenset[str], largest: int = LARGEST_TABLE
    ) -> None:
        self.free = tuple(v for v in problem.variables if v.name not in fixed)
        self._index = {v.name: i for i, v in enumerate(self.free)}
        sizes = [v.size for v in self.free]
        self.layout = Layout([self.scope(f) for f in problem.factors], sizes)
        self.moves = Moves(self.layout)
        elimination = Elimination(self.layout.scopes, sizes)
        self.exact = elimination.largest <= largest
        self.batch = max(1, min(16, _BATCH_ENTRIES // elimination.largest))
        self._minimiser: Elimination | CutsetSearch = elimination
        if not self.exact:
            self._minimiser = CutsetSearch(self.layout, largest)
        touched = {v for scope in self.layout.scopes for v in scope}
        self._idle = [i for i in range(len(sizes)) if i not in touched]
        self._neutral = [self.free[i].neutral for i in self._idle]

    def scope(self, factor: Factor) -> Scope:
        """The free variables of a factor, as indices."""
        return tuple(self._index[v] for v in factor.scope if v in self._index)

    def minimise(self, flat: Floats) -> Ints:
        """Options (batch x free variables) minimising each row of `flat` (batch x length)."""
        found = self._minimiser.minimise(flat)
        found[:, self._idle] = self._neutral
        return found


class Conditioned:
    """The sums of a problem as flat vectors over the free variables.

    Attributes:
        latency: nanoseconds of what depends on the variables.
        size: bytes, likewise.
    """

    def __init__(self, problem: Problem, structure: Structure, fixed: Assignment) -> None:
        self.structure, self.fixed, self._problem = structure, dict(fixed), problem
        positions, values, _ = self._entries(problem.latency)
        self.latency = scatter_add(positions, values, structure.layout.length)
        positions, values, _ = self._entries(problem.size)
        self.size = scatter_add(positions, values, structure.layout.length)
        self._positions, self._values, terms = self._entries(problem.loss)
        self._knobs = ["", *problem.knobs]
        number = {k: i for i, k in enumerate(self._knobs)}
        of_factor = np.array([number[f.knob or ""] for f in problem.loss], np.int64)
        self._knob = of_factor[terms]

    def loss(self, multipliers: Mapping[str, float]) -> Floats:
        """The loss tables with every knob's terms scaled by 2 ** multiplier."""
        scale = np.exp2([multipliers.get(k, 0.0) if k else 0.0 for k in self._knobs])
        weights = self._values * scale[self._knob]
        return scatter_add(self._positions, weights, self.structure.layout.length)

    def totals(self, flat: Floats, options: Ints) -> Floats:
        """Sum of the tables of `flat` at each row of `options`."""
        return self.structure.layout.totals(flat, options)

    def assignment(self, options: Ints) -> dict[str, int]:
        """A whole assignment, in the order of the problem's variables."""
        free = {v.name: int(o) for v, o in zip(self.structure.free, options, strict=True)}
        both = {**self.fixed, **free}
        return {v.name: both[v.name] for v in self._problem.variables}

    def _entries(self, factors: Sequence[Factor]) -> tuple[Ints, Floats, Ints]:
        """Positions, values and factor number of everything the factors add to the flat vector."""
        found: list[tuple[Ints, Floats]] = []
        for factor in factors:
            at = tuple(self.fixed.get(v, slice(None)) for v in factor.scope)
            table = np.asarray(factor.table[at], np.float64)
            found.append(self.structure.layout.place(self.structure.scope(factor), table))
        numbers = [np.full(p.size, i) for i, (p, _) in enumerate(found)]
        none = np.zeros(0, np.int64)
        return (
            np.concatenate([none, *(p for p, _ in found)]),
            np.concatenate([np.zeros(0), *(v for _, v in found)]),
            np.concatenate([none, *numbers]),
        )
