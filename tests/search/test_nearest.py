"""What is nearest where bounds exclude the budget."""

from itertools import product

import pytest

from hwprune.errors import InfeasibleError
from hwprune.search.decode import Decoder
from hwprune.search.nearest import least_time, least_widening, widened
from hwprune.testing.problems import bounded, budget_between, residual_chain


@pytest.fixture
def tight():
    """A file that the fastest network is too large for, and some slower one is not."""
    problem = residual_chain(6, 4, 2)
    smallest = {v.name: 1 if v.is_kernel else 0 for v in problem.variables}
    return bounded(problem, 1.01 * problem.bounds[0].of(smallest))


def test_the_least_time_is_met_and_nothing_below_it(tight):
    least = least_time(tight)
    found = Decoder(tight).decode(least * (1 + 1e-9))
    assert tight.keeps_bounds(found.assignment)
    with pytest.raises(InfeasibleError):
        Decoder(tight).decode(0.98 * least)


@pytest.mark.parametrize("seed", range(6))
def test_the_widening_is_the_least_there_is(seed):
    problem = bounded(residual_chain(3, 3, seed), 10.5)
    budget = budget_between(problem, Decoder(problem).fastest().latency_ns, 0.02)
    names = [v.name for v in problem.variables]
    every = product(*(range(v.size) for v in problem.variables))
    found = (dict(zip(names, options, strict=True)) for options in every)
    within = [a for a in found if problem.latency_ns(a) <= budget]
    least = min(problem.bounds[0].of(a) for a in within) / 10.5
    factor = least_widening(problem, budget)
    assert least <= factor <= 1.02 * least
    assert Decoder(widened(problem, factor)).decode(budget).latency_ns <= budget


def test_a_budget_that_nothing_meets_is_no_matter_of_bounds(tight):
    with pytest.raises(InfeasibleError, match="the least reachable latency"):
        least_widening(tight, 1.0)


def test_bounds_that_never_hold_have_no_time():
    problem = residual_chain(3, 3, 1)
    assert least_time(bounded(problem, 1.0)) is None
