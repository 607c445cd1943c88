"""From multipliers to an assignment that meets the budget: the search's knapsack.

Minimises sum(loss) subject to sum(latency) <= budget. The Lagrangian loss + price * latency is
minimised exactly for a row of prices at once; between the dearest price that breaks the budget and
the cheapest that meets it the row is refined until no vertex of the convex hull lies between (as
HALP, arXiv 2110.10811, but with both neighbours of a layer in its latency, as MDP, 2406.12079).
Moves of one and two variables then use up the slack that the hull leaves.

Further bounds: where one of few variables (what lies in memory at a step) is broken, a table says
so; one of many (the bytes of the file) gets a price (decisions 0023, 0031).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

import numpy as np

from hwprune.errors import InfeasibleError
from hwprune.search.bounds import keeping_bounds
from hwprune.search.conditioned import LARGEST_TABLE, Conditioned, Structure, cannot
from hwprune.search.factors import Ints
from hwprune.search.hull import Point, points, within
from hwprune.search.problem import Assignment, Problem
from hwprune.units import format_ns

_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Decoded:
    """A solution.

    Attributes:
        latency_ns: recomputed from the problem's factors.
        loss: estimated, with the multipliers applied.
        gap: (loss - lower bound) / |loss|; infinite where no bound is known.
    """

    assignment: dict[str, int]
    latency_ns: float
    loss: float
    gap: float


class Decoder:
    """Solves one problem for any budget, multipliers and fixed variables; remembers structures."""

    def __init__(self, problem: Problem, largest_table: int = LARGEST_TABLE) -> None:
        self.problem = problem
        self._largest = largest_table
        self._structures: dict[frozenset[str], Structure] = {}
        self._latest: tuple[dict[str, int], Conditioned] | None = None

    def decode(
        self,
        budget_ns: float,
        multipliers: Mapping[str, float] | None = None,
        fixed: Assignment | None = None,
    ) -> Decoded:
        """The assignment of least loss within the budget and the problem's bounds.

        Args:
            budget_ns: bound on the whole latency, the problem's constant included.
            multipliers: knob -> x; the knob's loss terms are scaled by 2 ** x.
            fixed: variables that keep the given option.

        Raises:
            InfeasibleError: even the fastest assignment is over the budget, or none was found
                within it that keeps all bounds.
        """
        powers = multipliers or {}
        given = self._conditioned(fixed or {})
        fastest = self._fastest(given)
        least = self.problem.latency_ns(given.assignment(fastest.options))
        if (broken := given.broken(fastest.options)) is not None:
            raise InfeasibleError(broken)
        if least > budget_ns:
            raise InfeasibleError(
                f"the budget of {format_ns(budget_ns)} cannot be met: "
                f"the least reachable latency is {format_ns(least)} ({least:.0f} ns)"
            )
        room = budget_ns - self.problem.constant_ns
        for rounding in (_ROUNDING, -_ROUNDING):  # a budget may be exactly what something costs
            solved = self._solve(given, powers, fastest, room * (1 + rounding))
            if solved.latency_ns <= budget_ns:
                return solved
        excess = given.excess(fastest.options)
        if (excess > 0).any():
            raise InfeasibleError(cannot(given.wide[int(np.argmax(excess))], None))
        return self._decoded(given, fastest.options, powers, inf)

    def fastest(self, fixed: Assignment | None = None) -> Decoded:
        """The assignment of least latency (its loss under no multipliers)."""
        given = self._conditioned(fixed or {})
        return self._decoded(given, self._fastest(given).options, {}, inf)

    def exact(self, fixed: Assignment | None = None) -> bool:
        """Whether the Lagrangian is minimised exactly, so that `gap` is a bound."""
        return self._conditioned(fixed or {}).structure.exact

    def _solve(
        self,
        given: Conditioned,
        powers: Mapping[str, float],
        fastest: Point,
        room: float,
    ) -> Decoded:
        loss = given.loss(powers)
        options, bound = within(given, loss, fastest, room)
        if (given.excess(options) > 0).any():
            options, bound = keeping_bounds(given, loss, fastest, room, options)
        return self._decoded(given, options, powers, bound)

    def _decoded(
        self, given: Conditioned, options: Ints, powers: Mapping[str, float], bound: float
    ) -> Decoded:
        assignment = self.problem.settled(given.assignment(options))
        loss = self.problem.estimated_loss(assignment, powers)
        gap = inf
        if given.structure.exact and bound < inf:
            gap = max(0.0, loss - bound) / max(abs(loss), 1e-300)
        return Decoded(assignment, self.problem.latency_ns(assignment), loss, gap)

    def _fastest(self, given: Conditioned) -> Point:
        options = given.structure.minimise(given.latency[None])
        zero = given.loss({})
        return points(given, zero, np.array([inf]), options)[0]

    def _conditioned(self, fixed: Assignment) -> Conditioned:
        wanted = {v.name: int(fixed[v.name]) for v in self.problem.variables if v.name in fixed}
        if self._latest is None or self._latest[0] != wanted:
            key = frozenset(wanted)
            if key not in self._structures:
                self._structures[key] = Structure(self.problem, key, self._largest)
            self._latest = wanted, Conditioned(self.problem, self._structures[key], wanted)
        return self._latest[1]
