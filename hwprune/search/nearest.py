"""Where time and bounds exclude one another: how much of either would have to be given up."""

from dataclasses import replace
from math import inf, sqrt

from hwprune.errors import InfeasibleError
from hwprune.search.decode import Decoder
from hwprune.search.problem import Problem

_CLOSE = 1.01  # between what is known to do and what is known not to


def least_widening(problem: Problem, budget_ns: float) -> float:
    """The least factor, to a hundredth, by which all bounds must grow for the budget to be met.

    Raises InfeasibleError if the budget cannot be met without any bound either.
    """
    fastest = Decoder(replace(problem, bounds=())).decode(budget_ns).assignment
    low, high = 1.0, max([1.0, *(b.of(fastest) / b.most for b in problem.bounds)])
    while high > low * _CLOSE:
        middle = sqrt(low * high)
        if _can_be_met(widened(problem, middle), budget_ns):
            high = middle
        else:
            low = middle
    return high


def least_time(problem: Problem) -> float | None:
    """The least latency at which all bounds hold, nanoseconds; None if they never do."""
    untimed = replace(problem, latency=(), loss=problem.latency, constant_ns=0.0)
    try:
        return problem.constant_ns + Decoder(untimed).decode(inf).loss
    except InfeasibleError:
        return None


def widened(problem: Problem, factor: float) -> Problem:
    """The same with every bound so many times as wide."""
    bounds = tuple(b.at_most(factor * b.most) for b in problem.bounds)
    return replace(problem, bounds=bounds)


def _can_be_met(problem: Problem, budget_ns: float) -> bool:
    try:
        Decoder(problem).decode(budget_ns)
    except InfeasibleError:
        return False
    return True
