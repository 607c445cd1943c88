"""A problem with some variables fixed: fewer variables, smaller tables, all in flat vectors."""

from collections.abc import Mapping, Sequence
from math import inf, prod

import numpy as np
from numpy.typing import NDArray

from hwprune.search.cutset import CutsetSearch
from hwprune.search.factors import Elimination, Floats, Ints, Layout, Scope, scatter_add
from hwprune.search.moves import Moves
from hwprune.search.problem import Assignment, Bound, Factor, Problem
from hwprune.units import format_bytes

LARGEST_TABLE = 2_000_000  # entries; above it the exact minimiser would need seconds a call
_LARGEST_LOCAL = 20_000  # entries of a table that says where a bound is broken
_BATCH_ENTRIES = 4_000_000


def cannot(bound: Bound, least: float | None) -> str:
    """That a bound does not hold, and what is the least there is, if it is known."""
    told = (
        "in the time, or beside the other bounds"
        if least is None
        else (f"at least about {format_bytes(least)} ({least:.0f} bytes)")
    )
    return f"{bound.what} cannot have {format_bytes(bound.most)}: {told}"


def _laid_out(scopes: Sequence[Scope], sizes: Sequence[int]) -> tuple[Layout, Elimination]:
    layout = Layout(scopes, sizes)
    return layout, Elimination(layout.scopes, sizes)


class Structure:
    """What depends on which variables are fixed, but not on the options they are fixed at."""

    def __init__(
        self, problem: Problem, fixed: frozenset[str], largest: int = LARGEST_TABLE
    ) -> None:
        self.free = tuple(v for v in problem.variables if v.name not in fixed)
        self._index = {v.name: i for i, v in enumerate(self.free)}
        sizes = [v.size for v in self.free]
        scopes = [self.scope(f) for f in problem.factors]
        self.local = self._local(problem)
        self.layout, elimination = _laid_out([*scopes, *self.local.values()], sizes)
        if self.local and elimination.largest > largest:
            self.local = {}
            self.layout, elimination = _laid_out(scopes, sizes)
        self.moves = Moves(self.layout)
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

    def _local(self, problem: Problem) -> dict[int, Scope]:
        """The bounds (by number) on so few variables that one table tells where they hold."""
        found = {}
        for i, bound in enumerate(problem.bounds):
            scope = tuple(dict.fromkeys(v for f in bound.factors for v in self.scope(f)))
            if bound.most < inf and prod(self.free[v].size for v in scope) <= _LARGEST_LOCAL:
                found[i] = scope
        return found

    def minimise(self, flat: Floats) -> Ints:
        """Options (batch x free variables) minimising each row of `flat` (batch x length)."""
        found = self._minimiser.minimise(flat)
        found[:, self._idle] = self._neutral
        return found


class Conditioned:
    """The sums of a problem as flat vectors over the free variables.

    Attributes:
        latency: nanoseconds of what depends on the variables, and a time that fits nowhere where
            a bound on few variables is broken.
        wide: the other bounds.
        bounds: bytes, likewise, a row for each of these.
        most: what they leave room for.
    """

    def __init__(self, problem: Problem, structure: Structure, fixed: Assignment) -> None:
        self.structure, self.fixed, self._problem = structure, dict(fixed), problem
        self._broken = self._where_broken()
        self.latency = self._forbidding(self._sum(problem.latency))
        local, bounds = structure.local, problem.bounds
        self.wide = [b for i, b in enumerate(bounds) if b.most < inf and i not in local]
        self.bounds = [self._sum(b.factors) for b in self.wide]
        self.most = np.array([b.most - b.constant for b in self.wide])
        self._positions, self._values, terms = self._entries(problem.loss)
        self._knobs = ["", *problem.knobs]
        number = {k: i for i, k in enumerate(self._knobs)}
        of_factor = np.array([number[f.knob or ""] for f in problem.loss], np.int64)
        self._knob = of_factor[terms]

    def loss(self, multipliers: Mapping[str, float]) -> Floats:
        """The loss tables with every knob's terms scaled by 2 ** multiplier; where a bound on few
        variables is broken, more than anything else could cost.
        """
        scale = np.exp2([multipliers.get(k, 0.0) if k else 0.0 for k in self._knobs])
        weights = self._values * scale[self._knob]
        return self._forbidding(scatter_add(self._positions, weights, self.structure.layout.length))

    def totals(self, flat: Floats, options: Ints) -> Floats:
        """Sum of the tables of `flat` at each row of `options`."""
        return self.structure.layout.totals(flat, options)

    def excess(self, options: Ints) -> Floats:
        """Bytes over each of the wide bounds."""
        sums = [self.totals(flat, options[None])[0] for flat in self.bounds]
        return np.asarray(np.array(sums) - self.most)

    def broken(self, options: Ints) -> str | None:
        """What is wrong with the first bound on few variables that does not hold, if one does."""
        at = self.assignment(options)
        for i, scope in self.structure.local.items():
            bound = self._problem.bounds[i]
            if bound.of(at) > bound.most:
                least = float(self._table(bound, scope).min())
                return cannot(bound, least if least > bound.most else None)
        return None

    def assignment(self, options: Ints) -> dict[str, int]:
        """A whole assignment, in the order of the problem's variables."""
        free = {v.name: int(o) for v, o in zip(self.structure.free, options, strict=True)}
        both = {**self.fixed, **free}
        return {v.name: both[v.name] for v in self._problem.variables}

    def _where_broken(self) -> NDArray[np.bool_]:
        """Entries of the flat vector at which a bound on few variables is broken."""
        broken = np.zeros(self.structure.layout.length, np.bool_)
        for i, scope in self.structure.local.items():
            bound = self._problem.bounds[i]
            over = (self._table(bound, scope) > bound.most).astype(np.float64)
            at, found = self.structure.layout.place(scope, over)
            broken[at[found > 0]] = True
        return broken

    def _table(self, bound: Bound, scope: Scope) -> Floats:
        """Bytes by the variables of `scope`, which are all that the bound depends on."""
        sizes = [self.structure.layout.sizes[v] for v in scope]
        total: Floats = np.full(sizes, bound.constant, np.float64)
        for factor in bound.factors:
            own = self.structure.scope(factor)
            total += self.structure.layout.aligned(own, self._reduced(factor), scope)
        return total

    def _reduced(self, factor: Factor) -> Floats:
        """A factor's table over its free variables."""
        at = tuple(self.fixed.get(v, slice(None)) for v in factor.scope)
        return np.asarray(factor.table[at], np.float64)

    def _forbidding(self, flat: Floats) -> Floats:
        if not self._broken.any():
            return flat
        starts = self.structure.layout.starts
        most = np.abs(np.maximum.reduceat(flat, starts)) + np.abs(np.minimum.reduceat(flat, starts))
        return flat + self._broken * (1.0 + 2.0 * float(most.sum()))

    def _sum(self, factors: Sequence[Factor]) -> Floats:
        positions, values, _ = self._entries(factors)
        return scatter_add(positions, values, self.structure.layout.length)

    def _entries(self, factors: Sequence[Factor]) -> tuple[Ints, Floats, Ints]:
        """Positions, values and factor number of everything the factors add to the flat vector."""
        place, scope = self.structure.layout.place, self.structure.scope
        found = [place(scope(factor), self._reduced(factor)) for factor in factors]
        numbers = [np.full(p.size, i) for i, (p, _) in enumerate(found)]
        none = np.zeros(0, np.int64)
        return (
            np.concatenate([none, *(p for p, _ in found)]),
            np.concatenate([np.zeros(0), *(v for _, v in found)]),
            np.concatenate([none, *numbers]),
        )
