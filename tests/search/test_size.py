"""Two bounds at once: time, and the bytes of the file."""

import numpy as np
import pytest

from hwprune.errors import InfeasibleError
from hwprune.search.decode import Decoder
from hwprune.search.problem import Factor, Problem, Variable
from hwprune.search.study import search
from hwprune.testing.problems import budget_between, least_loss, residual_chain


def between(problem: Problem, share: float) -> float:
    """Bytes at a share of the way from the smallest to the untouched network."""
    smallest = problem.size_bytes({v.name: 0 for v in problem.variables} | _in_bytes(problem))
    whole = problem.size_bytes({v.name: v.neutral for v in problem.variables})
    return smallest + share * (whole - smallest)


def _in_bytes(problem: Problem) -> dict[str, int]:
    return {v.name: v.size - 1 for v in problem.variables if v.is_kernel}


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
def test_small_problems_against_every_assignment(seed, share):
    problem = residual_chain(2 + seed % 2, 3, seed)
    decoder = Decoder(problem)
    fastest = decoder.fastest()
    budget, most = budget_between(problem, fastest.latency_ns, 0.7), between(problem, share)
    best = least_loss(problem, budget, most)
    found = decoder.decode(budget, most_bytes=most)
    assert found.latency_ns <= budget
    assert problem.size_bytes(found.assignment) <= most
    assert found.loss * (1 - found.gap) <= best + 1e-9  # the gap is a bound
    assert found.loss - best <= 0.3 * fastest.loss


def test_most_small_problems_are_solved_to_the_optimum():
    hits = 0
    for seed in range(20):
        problem = residual_chain(2, 3, seed)
        decoder = Decoder(problem)
        budget = budget_between(problem, decoder.fastest().latency_ns, 0.6)
        most = between(problem, 0.35)
        found = decoder.decode(budget, most_bytes=most).loss
        hits += found <= least_loss(problem, budget, most) + 1e-9
    assert hits >= 14


def test_large_problems_come_close_to_their_bound():
    problem = residual_chain(30, 8, 3)
    decoder = Decoder(problem)
    budget = budget_between(problem, decoder.fastest().latency_ns, 0.5)
    free = decoder.decode(budget)
    most = 0.7 * problem.size_bytes(free.assignment)
    found = decoder.decode(budget, most_bytes=most)
    assert problem.size_bytes(found.assignment) <= most
    assert found.loss > free.loss
    assert found.gap < 0.08


def test_a_bound_that_does_not_bind_changes_nothing():
    problem = residual_chain(10, 5, 1)
    decoder = Decoder(problem)
    budget = budget_between(problem, decoder.fastest().latency_ns, 0.5)
    free = decoder.decode(budget)
    same = decoder.decode(budget, most_bytes=problem.size_bytes(free.assignment))
    assert same.assignment == free.assignment


def test_what_cannot_be_that_small_is_told_with_what_can():
    variables = (Variable("width:a", 2),)
    latency = (Factor(("width:a",), np.array([1.0, 2.0])),)
    loss = (Factor(("width:a",), np.array([1.0, 0.0])),)
    size = (Factor(("width:a",), np.array([300.0, 900.0])),)
    decoder = Decoder(Problem(variables, latency, loss, 0.0, size, 100.0))
    assert decoder.decode(5.0, most_bytes=400).assignment == {"width:a": 0}
    with pytest.raises(InfeasibleError, match="the smallest one takes about 400"):
        decoder.decode(5.0, most_bytes=399)


@pytest.mark.parametrize("strategy", ["bo", "random", "uniform", "knapsack"])
def test_every_strategy_keeps_to_both_bounds(strategy):
    problem = residual_chain(6, 4, 2)
    fastest = Decoder(problem).fastest().latency_ns
    budget, most = budget_between(problem, fastest, 0.6), between(problem, 0.4)
    found = search(problem, budget, problem.estimated_loss, strategy, 12, 0, most_bytes=most)
    for e in found.evaluated:
        assert problem.latency_ns(e.assignment) <= budget
        assert problem.size_bytes(e.assignment) <= most
