"""From multipliers to an assignment that meets the budget: the search's knapsack.

Minimises sum(loss) subject to sum(latency) <= budget. The Lagrangian loss + price * latency is
minimised exactly for a row of prices at once; between the dearest price that breaks the budget and
the cheapest that meets it the row is refined until no vertex of the convex hull lies between (as
HALP, arXiv 2110.10811, but with both neighbours of a layer in its latency, as MDP, 2406.12079).
Moves of one and two variables then use up the slack that the hull leaves.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

import numpy as np

from hwprune.errors import InfeasibleError
from hwprune.search.conditioned import LARGEST_TABLE, Conditioned, Structure
from hwprune.search.descent import descend
from hwprune.search.factors import Floats, Ints
from hwprune.search.problem import Assignment, Problem
from hwprune.units import format_ns

_ROUNDS = 40
_SPREAD = 64.0  # prices of the first round, around the slope between the two extremes
_STARTS = 40  # of local moves on either side of the budget, divided by the variables; 2 at least
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


@dataclass(frozen=True, slots=True)
class _Point:
    """A minimiser of the Lagrangian at `price` (infinite: of the latency alone)."""

    price: float
    options: Ints
    latency: float
    loss: float


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
        most_bytes: float = inf,
    ) -> Decoded:
        """The assignment of least loss within the budget.

        Args:
            budget_ns: bound on the whole latency, the problem's constant included.
            multipliers: knob -> x; the knob's loss terms are scaled by 2 ** x.
            fixed: variables that keep the given option.
            most_bytes: bound on the whole size, the problem's constant included.

        Raises:
            InfeasibleError: even the fastest assignment is over the budget, or the smallest one
                within it over the bound on the size.
        """
        powers = multipliers or {}
        given = self._conditioned(fixed or {})
        fastest = self._fastest(given)
        least = self.problem.latency_ns(given.assignment(fastest.options))
        if least > budget_ns:
            raise InfeasibleError(
                f"the budget of {format_ns(budget_ns)} cannot be met: "
                f"the least reachable latency is {format_ns(least)} ({least:.0f} ns)"
            )
        room = budget_ns - self.problem.constant_ns
        for rounding in (_ROUNDING, -_ROUNDING):  # a budget may be exactly what something costs
            solved = self._solve(given, powers, fastest, room * (1 + rounding), most_bytes)
            if solved.latency_ns <= budget_ns:
                return solved
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
        fastest: _Point,
        room: float,
        most_bytes: float,
    ) -> Decoded:
        loss = given.loss(powers)
        options, bound = _within(given, loss, fastest, room)
        most = most_bytes - self.problem.constant_bytes
        if given.totals(given.size, options[None])[0] > most:
            options, bound = self._smaller(given, loss, fastest, room, most, options)
        return self._decoded(given, options, powers, bound)

    def _smaller(
        self,
        given: Conditioned,
        loss: Floats,
        fastest: _Point,
        room: float,
        most: float,
        free: Ints,
    ) -> tuple[Ints, float]:
        """Least loss within both bounds, by the price of a byte: dearer where the best at a price
        is too large, cheaper where it fits (the edge of the hull that crosses the bound).
        """
        small, _ = _within(given, given.size, fastest, room)
        ends = np.stack([free, small])
        sizes, losses = given.totals(given.size, ends), given.totals(loss, ends)
        if sizes[1] > most:
            least = sizes[1] + self.problem.constant_bytes
            raise InfeasibleError(
                f"no file within {most + self.problem.constant_bytes:.0f} bytes meets the budget: "
                f"the smallest one takes about {least:.0f}"
            )
        bound = -inf
        for _ in range(_ROUNDS):
            price = (losses[1] - losses[0]) / (sizes[0] - sizes[1])
            if not price > 0:
                break
            found, below = _within(given, loss + price * given.size, fastest, room)
            bound = max(bound, below - price * most)
            size, cost = (given.totals(flat, found[None])[0] for flat in (given.size, loss))
            if cost + price * size >= losses[0] + price * sizes[0] - _ROUNDING * abs(losses[0]):
                break  # nothing lies below the line between the ends
            end = int(size <= most)
            ends[end], sizes[end], losses[end] = found, size, cost
        return descend(given, loss, room, ends[1], most), bound

    def _decoded(
        self, given: Conditioned, options: Ints, powers: Mapping[str, float], bound: float
    ) -> Decoded:
        assignment = self.problem.settled(given.assignment(options))
        loss = self.problem.estimated_loss(assignment, powers)
        gap = inf
        if given.structure.exact and bound < inf:
            gap = max(0.0, loss - bound) / max(abs(loss), 1e-300)
        return Decoded(assignment, self.problem.latency_ns(assignment), loss, gap)

    def _fastest(self, given: Conditioned) -> _Point:
        options = given.structure.minimise(given.latency[None])
        zero = given.loss({})
        return _points(given, zero, np.array([inf]), options)[0]

    def _conditioned(self, fixed: Assignment) -> Conditioned:
        wanted = {v.name: int(fixed[v.name]) for v in self.problem.variables if v.name in fixed}
        if self._latest is None or self._latest[0] != wanted:
            key = frozenset(wanted)
            if key not in self._structures:
                self._structures[key] = Structure(self.problem, key, self._largest)
            self._latest = wanted, Conditioned(self.problem, self._structures[key], wanted)
        return self._latest[1]


def _within(given: Conditioned, loss: Floats, fastest: _Point, room: float) -> tuple[Ints, float]:
    """Options of least `loss` whose latency fits, and a lower bound of that loss."""
    hull = _Hull(given, loss, fastest, room)
    descents = [descend(given, loss, room, p.options) for p in hull.starts()]
    options = np.stack([*descents, fastest.options])
    fits = given.totals(given.latency, options) <= room
    best = int(np.argmin(np.where(fits, given.totals(loss, options), inf)))
    return options[best], hull.bound


class _Hull:
    """The two ends of the convex hull's edge that crosses the budget, and the bound it gives."""

    def __init__(self, given: Conditioned, loss: Floats, fastest: _Point, room: float) -> None:
        self._given, self._loss, self._room = given, loss, room
        self.bound = -inf
        self._visited: list[_Point] = []
        self._fastest = fastest
        self.over, self.under = self._ends(fastest)
        for _ in range(_ROUNDS):
            if self.over is None or not self._narrow(self.over):
                break

    def starts(self) -> list[_Point]:
        """Where to start local moves: the visited points nearest to the budget on either side."""
        distinct = {p.options.tobytes(): p for p in [*self._visited, self._fastest]}
        nearest = sorted(distinct.values(), key=lambda p: abs(p.latency - self._room))
        under = [p for p in nearest if p.latency <= self._room]
        over = [p for p in nearest if p.latency > self._room]
        each = max(2, _STARTS // len(self.under.options)) if len(self.under.options) else 1
        return [*under[:each], *over[:each]]

    def _ends(self, fastest: _Point) -> tuple[_Point | None, _Point]:
        """The unconstrained minimum if over budget, and a feasible point."""
        [free] = self._minimise(np.zeros(1))
        [under] = _points(self._given, self._loss, np.array([inf]), fastest.options[None])
        return (free, under) if free.latency > self._room else (None, free)

    def _narrow(self, over: _Point) -> bool:
        """One row of prices between the ends; False once the crossing edge is found."""
        span = over.latency - self.under.latency
        slope = (self.under.loss - over.loss) / span if span > 0 else 0.0
        if not slope > 0:
            return False
        low = max(over.price, slope / _SPREAD)
        high = min(self.under.price, slope * _SPREAD)
        row = np.geomspace(low, high, self._given.structure.batch + 1)[1:-1]
        points = self._minimise(np.unique([slope, *row]))
        before = over.loss + slope * over.latency
        middle = next(p for p in points if p.price == slope)
        for point in points:
            self._take(point)
        return middle.loss + slope * middle.latency < before - _ROUNDING * abs(before)

    def _take(self, point: _Point) -> None:
        over = self.over
        if point.latency <= self._room:
            if point.price < self.under.price:
                self.under = point
        elif over is not None and point.price > over.price:
            self.over = point

    def _minimise(self, prices: Floats) -> list[_Point]:
        flat = self._loss + prices[:, None] * self._given.latency
        points = _points(self._given, self._loss, prices, self._given.structure.minimise(flat))
        values = [p.loss + p.price * (p.latency - self._room) for p in points]
        self.bound = max(self.bound, *values)
        self._visited += points
        return points


def _points(given: Conditioned, loss: Floats, prices: Floats, options: Ints) -> list[_Point]:
    latencies = given.totals(given.latency, options)
    losses = given.totals(loss, options)
    rows = zip(prices, options, latencies, losses, strict=True)
    return [_Point(float(p), o, float(t), float(q)) for p, o, t, q in rows]
