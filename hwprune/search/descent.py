"""Local moves that use up the slack a Lagrangian solution leaves under the budget."""

from math import inf

import numpy as np
from numpy.typing import NDArray

from hwprune.search.conditioned import Conditioned
from hwprune.search.factors import Floats, Ints

_ROUNDING = 1e-12


def descend(
    given: Conditioned, loss: Floats, room: float, start: Ints, bounded: bool = False
) -> Ints:
    """Applies the best move of one variable, then of two, until none helps.

    If `bounded`, no move breaks a bound; the start must keep them all.

    From a start over budget it first moves, cheaply in loss, until the latency fits `room`; the
    result is over it only if no move led there.
    """
    options = start.copy()
    moves = given.structure.moves
    latency = float(given.totals(given.latency, options[None])[0])
    for _ in range(20 * len(options) + 20):
        costs, gains = moves.single(given.latency, options), moves.single(loss, options)
        if bounded:
            gains = np.where(_kept(given, options), gains, inf)
        slack = room - latency
        best = _choose(gains, costs, slack)
        alone = [] if best is None else [best]
        picked = alone or _pair(given, loss, options, costs, gains, slack)
        if not picked:
            break
        before = options.copy()
        for move in picked:
            options[moves.variable[move]] = moves.option[move]
        if bounded and (given.excess(options) > 0).any():  # two may fit, and not together
            return before
        latency = float(given.totals(given.latency, options[None])[0])
    return options


def _kept(given: Conditioned, options: Ints) -> NDArray[np.bool_]:
    """Which single moves break no bound."""
    excess, moves = given.excess(options), given.structure.moves
    grown = [moves.single(flat, options) for flat in given.bounds]
    return np.asarray(np.all([g <= -e for g, e in zip(grown, excess, strict=True)], axis=0))


def _pair(
    given: Conditioned, loss: Floats, options: Ints, costs: Floats, gains: Floats, slack: float
) -> list[int]:
    """The best two moves together, or none."""
    moves = given.structure.moves
    joint_costs = moves.pairs(given.latency, options, costs)
    joint_gains = moves.pairs(loss, options, gains)
    found: list[tuple[float, list[int]]] = []
    near = _choose(joint_gains, joint_costs, slack)
    if near is not None:
        found.append((float(joint_gains[near]), moves.pair[:, near].tolist()))
    # what adds up can only help if one move gains what the other makes room for
    gainers, savers = np.flatnonzero(gains < 0), np.flatnonzero(costs < 0)
    sums = gains[gainers, None] + gains[savers]
    both = np.where(moves.apart[np.ix_(gainers, savers)], sums, inf).ravel()
    far = _choose(both, (costs[gainers, None] + costs[savers]).ravel(), slack)
    if far is not None:
        a, b = divmod(far, len(savers))
        found.append((float(both[far]), [int(gainers[a]), int(savers[b])]))
    return min(found, default=(0.0, []))[1]


def _choose(gains: Floats, costs: Floats, slack: float) -> int | None:
    """The move of largest gain within the slack; over budget, the cheapest way towards it."""
    if not gains.size:
        return None
    fits = costs <= slack
    if slack >= 0:
        found = np.where(fits, gains, inf)
        best = int(np.argmin(found))
        least = _ROUNDING * float(np.abs(gains[np.isfinite(gains)]).max(initial=0.0))
        return best if found[best] < -least else None
    if fits.any():
        return int(np.argmin(np.where(fits, gains, inf)))
    saves = costs < 0
    rates = np.where(saves, gains, inf) / np.where(saves, -costs, 1.0)
    best = int(np.argmin(rates))
    return best if rates[best] < inf else None
