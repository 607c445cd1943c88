"""Two bounds at once: time, and the bytes of the file."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from hwprune.errors import InfeasibleError
from hwprune.search.decode import Decoder
from hwprune.search.problem import Bound, Factor, Problem, Variable
from hwprune.search.study import search
from hwprune.testing.problems import bounded, budget_between, least_loss, residual_chain


def between(problem: Problem, share: float) -> float:
    """Bytes at a share of the way from the smallest to the untouched network."""
    [file] = problem.bounds
    smallest = file.of({v.name: 0 for v in problem.variables} | _in_bytes(problem))
    whole = file.of({v.name: v.neutral for v in problem.variables})
    return smallest + share * (whole - smallest)


def _in_bytes(problem: Problem) -> dict[str, int]:
    return {v.name: v.size - 1 for v in problem.variables if v.is_kernel}


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
def test_small_problems_against_every_assignment(seed, share):
    problem = residual_chain(2 + seed % 2, 3, seed)
    problem = bounded(problem, between(problem, share))
    decoder = Decoder(problem)
    fastest = decoder.fastest()
    budget = budget_between(problem, fastest.latency_ns, 0.7)
    best = least_loss(problem, budget)
    found = decoder.decode(budget)
    assert found.latency_ns <= budget
    assert problem.keeps_bounds(found.assignment)
    assert found.loss * (1 - found.gap) <= best + 1e-9  # the gap is a bound
    assert found.loss - best <= 0.3 * fastest.loss


def test_most_small_problems_are_solved_to_the_optimum():
    hits = 0
    for seed in range(20):
        problem = residual_chain(2, 3, seed)
        problem = bounded(problem, between(problem, 0.35))
        decoder = Decoder(problem)
        budget = budget_between(problem, decoder.fastest().latency_ns, 0.6)
        hits += decoder.decode(budget).loss <= least_loss(problem, budget) + 1e-9
    assert hits >= 14


def test_large_problems_come_close_to_their_bound():
    problem = residual_chain(30, 8, 3)
    decoder = Decoder(problem)
    budget = budget_between(problem, decoder.fastest().latency_ns, 0.5)
    free = decoder.decode(budget)
    problem = bounded(problem, 0.7 * problem.bounds[0].of(free.assignment))
    found = Decoder(problem).decode(budget)
    assert problem.keeps_bounds(found.assignment)
    assert found.loss > free.loss
    assert found.gap < 0.08


def test_a_bound_that_does_not_bind_changes_nothing():
    problem = residual_chain(10, 5, 1)
    decoder = Decoder(problem)
    budget = budget_between(problem, decoder.fastest().latency_ns, 0.5)
    free = decoder.decode(budget)
    just = bounded(problem, problem.bounds[0].of(free.assignment))
    assert Decoder(just).decode(budget).assignment == free.assignment


def test_what_cannot_be_that_small_is_told_with_what_can():
    variables = (Variable("width:a", 2),)
    latency = (Factor(("width:a",), np.array([1.0, 2.0])),)
    loss = (Factor(("width:a",), np.array([1.0, 0.0])),)
    size = (Factor(("width:a",), np.array([300.0, 900.0])),)
    file = Bound("the file", size, 100.0, 400.0)
    problem = Problem(variables, latency, loss, 0.0, (file,))
    assert Decoder(problem).decode(5.0).assignment == {"width:a": 0}
    with pytest.raises(InfeasibleError, match=r"the file cannot have 399 B.*at least about 400 B"):
        Decoder(bounded(problem, 399.0)).decode(5.0)


@pytest.mark.parametrize("strategy", ["bo", "random", "uniform", "knapsack"])
def test_every_strategy_keeps_to_both_bounds(strategy):
    problem = residual_chain(6, 4, 2)
    problem = bounded(problem, between(problem, 0.4))
    budget = budget_between(problem, Decoder(problem).fastest().latency_ns, 0.6)
    found = search(problem, budget, problem.estimated_loss, strategy, 12, 0)
    for e in found.evaluated:
        assert problem.latency_ns(e.assignment) <= budget
        assert problem.keeps_bounds(e.assignment)


def moments(problem: Problem, share: float) -> Problem:
    """With a bound on every two neighbouring widths together, as activations have them: at `share`
    of the way from the least to the most that there may be.
    """
    widths = [v for v in problem.variables if v.name.startswith("width:")]
    found = []
    for a, b in pairwise(widths):
        factors = tuple(Factor((v.name,), np.arange(1.0, v.size + 1)) for v in (a, b))
        least, most = 2.0, float(a.size + b.size)
        found.append(Bound(f"at {b.name}", factors, 0.0, least + share * (most - least)))
    return replace(problem, bounds=(*problem.bounds, *found))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("share", [0.3, 0.6])
def test_many_bounds_at_once_against_every_assignment(seed, share):
    problem = residual_chain(2 + seed % 2, 3, seed)
    problem = moments(bounded(problem, between(problem, 0.6)), share)
    decoder = Decoder(problem)
    budget = budget_between(problem, decoder.fastest().latency_ns, 0.8)
    best = least_loss(problem, budget)
    found = decoder.decode(budget)
    assert problem.keeps_bounds(found.assignment)
    assert found.latency_ns <= budget
    assert found.loss * (1 - found.gap) <= best + 1e-9
    assert found.loss - best <= 0.3 * decoder.fastest().loss


def test_many_bounds_on_a_large_problem_come_close_to_their_bound():
    problem = moments(residual_chain(30, 8, 3), 0.6)
    decoder = Decoder(problem)
    budget = budget_between(problem, decoder.fastest().latency_ns, 0.7)
    free = Decoder(replace(problem, bounds=())).decode(budget)
    assert not problem.keeps_bounds(free.assignment)
    found = decoder.decode(budget)
    assert problem.keeps_bounds(found.assignment)
    assert free.loss < found.loss
    assert found.gap < 0.15


def test_two_bounds_that_exclude_each_other_are_told():
    """Either of two widths must be the larger one for each bound alone."""
    variables = (Variable("width:a", 2), Variable("width:b", 2))
    loss = (Factor(("width:a",), np.array([1.0, 0.0])),)
    up = Factor(("width:a", "width:b"), np.array([[9.0, 1.0], [9.0, 9.0]]))
    down = Factor(("width:a", "width:b"), np.array([[9.0, 9.0], [1.0, 9.0]]))
    bounds = (Bound("the file", (up,), 0.0, 5.0), Bound("what lies there", (down,), 0.0, 5.0))
    with pytest.raises(
        InfeasibleError, match=r"cannot have 5 B: in the time, or beside the other bounds"
    ):
        Decoder(Problem(variables, (), loss, 0.0, bounds)).decode(1.0)
