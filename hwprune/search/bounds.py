"""Bounds beside the budget, in bytes: each broken one gets a price until all hold."""

from math import inf

import numpy as np

from hwprune.errors import InfeasibleError
from hwprune.search.conditioned import Conditioned, cannot
from hwprune.search.descent import descend
from hwprune.search.factors import Floats, Ints
from hwprune.search.hull import Point, within

_STEPS = 40  # to the edge of one bound
_ROUNDS = 4  # for each bound
_ROUNDING = 1e-12


def keeping_bounds(
    given: Conditioned, loss: Floats, fastest: Point, room: float, free: Ints
) -> tuple[Ints, float]:
    """Options of least `loss` within `room` and all bounds, and a lower bound of that loss.

    `free` are those of least loss within `room` alone. A coordinate ascent on the dual: the bound
    that is most broken is priced by the edge of its hull, the prices of the others as they are.

    Raises InfeasibleError where none was found.
    """
    flats, scale = np.stack(given.bounds), np.maximum(np.abs(given.most), 1.0)
    prices, options, below = np.zeros(len(flats)), free, -inf
    for _ in range(_ROUNDS * len(flats)):
        excess = given.excess(options)
        if (excess <= 0).all():
            break
        worst = int(np.argmax(excess / scale))
        base = loss + prices @ flats
        options, price, bound = _edge(given, base, fastest, room, worst, options)
        below = max(below, bound - float(prices @ given.most))
        prices[worst] += price
    else:
        options = _smallest(given, flats, scale, fastest, room)
    return descend(given, loss, room, options, bounded=True), below


def _edge(
    given: Conditioned, loss: Floats, fastest: Point, room: float, which: int, over: Ints
) -> tuple[Ints, float, float]:
    """Options on the near side of one bound, the price of its bytes there, and a lower bound.

    Dearer where the best at a price is too large, cheaper where it fits, until nothing lies below
    the line between the two.
    """
    flat, most = given.bounds[which], float(given.most[which])
    small, _ = within(given, flat, fastest, room)
    ends = np.stack([over, small])
    sizes, losses = given.totals(flat, ends), given.totals(loss, ends)
    if sizes[1] > most:
        raise InfeasibleError(_too_much(given, which, float(sizes[1]) - most))
    bound, price = -inf, 0.0
    for _ in range(_STEPS):
        slope = (losses[1] - losses[0]) / (sizes[0] - sizes[1])
        if not slope > 0:
            break
        price = float(slope)
        found, below = within(given, loss + price * flat, fastest, room)
        bound = max(bound, below - price * most)
        size, cost = (given.totals(f, found[None])[0] for f in (flat, loss))
        if cost + price * size >= losses[0] + price * sizes[0] - _ROUNDING * abs(losses[0]):
            break
        end = int(size <= most)
        ends[end], sizes[end], losses[end] = found, size, cost
    return ends[1], price, bound


def _smallest(
    given: Conditioned, flats: Floats, scale: Floats, fastest: Point, room: float
) -> Ints:
    """Where prices led nowhere: the least of all bounds together."""
    options, _ = within(given, np.asarray((1 / scale) @ flats), fastest, room)
    excess = given.excess(options)
    if (excess > 0).any():
        which = int(np.argmax(excess / scale))
        raise InfeasibleError(_too_much(given, which, float(excess[which])))
    return options


def _too_much(given: Conditioned, which: int, excess: float) -> str:
    return cannot(given.wide[which], given.wide[which].most + excess)
