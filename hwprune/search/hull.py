"""The convex hull of loss against latency where it crosses the budget, and what lies near it."""

from dataclasses import dataclass
from math import inf

import numpy as np

from hwprune.search.conditioned import Conditioned
from hwprune.search.descent import descend
from hwprune.search.factors import Floats, Ints

_ROUNDS = 40
_SPREAD = 64.0  # prices of the first round, around the slope between the two extremes
_STARTS = 40  # of local moves on either side of the budget, divided by the variables; 2 at least
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Point:
    """A minimiser of the Lagrangian at `price` (infinite: of the latency alone)."""

    price: float
    options: Ints
    latency: float
    loss: float


def within(given: Conditioned, loss: Floats, fastest: Point, room: float) -> tuple[Ints, float]:
    """Options of least `loss` whose latency fits, and a lower bound of that loss."""
    hull = _Hull(given, loss, fastest, room)
    descents = [descend(given, loss, room, p.options) for p in hull.starts()]
    options = np.stack([*descents, fastest.options])
    fits = given.totals(given.latency, options) <= room
    best = int(np.argmin(np.where(fits, given.totals(loss, options), inf)))
    return options[best], hull.bound


class _Hull:
    """The two ends of the convex hull's edge that crosses the budget, and the bound it gives."""

    def __init__(self, given: Conditioned, loss: Floats, fastest: Point, room: float) -> None:
        self._given, self._loss, self._room = given, loss, room
        self.bound = -inf
        self._visited: list[Point] = []
        self._fastest = fastest
        self.over, self.under = self._ends(fastest)
        for _ in range(_ROUNDS):
            if self.over is None or not self._narrow(self.over):
                break

    def starts(self) -> list[Point]:
        """Where to start local moves: the visited points nearest to the budget on either side."""
        distinct = {p.options.tobytes(): p for p in [*self._visited, self._fastest]}
        nearest = sorted(distinct.values(), key=lambda p: abs(p.latency - self._room))
        under = [p for p in nearest if p.latency <= self._room]
        over = [p for p in nearest if p.latency > self._room]
        each = max(2, _STARTS // len(self.under.options)) if len(self.under.options) else 1
        return [*under[:each], *over[:each]]

    def _ends(self, fastest: Point) -> tuple[Point | None, Point]:
        """The unconstrained minimum if over budget, and a feasible point."""
        [free] = self._minimise(np.zeros(1))
        [under] = points(self._given, self._loss, np.array([inf]), fastest.options[None])
        return (free, under) if free.latency > self._room else (None, free)

    def _narrow(self, over: Point) -> bool:
        """One row of prices between the ends; False once the crossing edge is found."""
        span = over.latency - self.under.latency
        slope = (self.under.loss - over.loss) / span if span > 0 else 0.0
        if not slope > 0:
            return False
        low = max(over.price, slope / _SPREAD)
        high = min(self.under.price, slope * _SPREAD)
        row = np.geomspace(low, high, self._given.structure.batch + 1)[1:-1]
        found = self._minimise(np.unique([slope, *row]))
        before = over.loss + slope * over.latency
        middle = next(p for p in found if p.price == slope)
        for point in found:
            self._take(point)
        return middle.loss + slope * middle.latency < before - _ROUNDING * abs(before)

    def _take(self, point: Point) -> None:
        over = self.over
        if point.latency <= self._room:
            if point.price < self.under.price:
                self.under = point
        elif over is not None and point.price > over.price:
            self.over = point

    def _minimise(self, prices: Floats) -> list[Point]:
        flat = self._loss + prices[:, None] * self._given.latency
        found = points(self._given, self._loss, prices, self._given.structure.minimise(flat))
        values = [p.loss + p.price * (p.latency - self._room) for p in found]
        self.bound = max(self.bound, *values)
        self._visited += found
        return found


def points(given: Conditioned, loss: Floats, prices: Floats, options: Ints) -> list[Point]:
    """What was found at each price."""
    latencies = given.totals(given.latency, options)
    losses = given.totals(loss, options)
    rows = zip(prices, options, latencies, losses, strict=True)
    return [Point(float(p), o, float(t), float(q)) for p, o, t, q in rows]
