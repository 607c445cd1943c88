"""The plain strategies and the rivals: each does what its name says."""

import numpy as np
import pytest

from hwprune.errors import InfeasibleError, UsageError
from hwprune.search.decode import Decoder
from hwprune.search.repair import reliefs, repaired
from hwprune.search.strategy import Task
from hwprune.search.study import search
from hwprune.testing.problems import bounded, budget_between, least_loss, residual_chain


@pytest.fixture
def measured(problem, hidden):
    return lambda assignment: problem.estimated_loss(assignment, hidden)


def test_exhaustive_finds_the_optimum_of_what_is_measured_and_then_ends():
    problem = residual_chain(3, 3, 1)
    budget = budget_between(problem, Decoder(problem).fastest().latency_ns, 0.4)
    found = search(problem, budget, problem.estimated_loss, "exhaustive", 100_000)
    assert found.best.loss == pytest.approx(least_loss(problem, budget))
    assert len({e.key for e in found.evaluated}) == len(found.evaluated) < 100_000
    assert found.evaluated[0].loss == found.best.loss  # likeliest first


def test_exhaustive_refuses_what_it_cannot_finish_and_what_does_not_fit(problem, budget, measured):
    with pytest.raises(UsageError, match="one by one"):
        search(problem, budget, measured, "exhaustive", 10)
    with pytest.raises(InfeasibleError):
        search(residual_chain(2, 3, 1), 1.0, lambda _: 0.0, "exhaustive", 10)


@pytest.mark.parametrize("seed", range(5))
def test_repaired_ones_fit_and_nothing_more_would(problem, budget, seed):
    task = Task(problem, Decoder(problem), budget, 0)
    rng = np.random.default_rng(seed)
    drawn = {v.name: int(rng.integers(v.size)) for v in problem.variables}
    found = repaired(task, drawn, rng)
    assert task.used(found) <= 1.0
    assert task.used({v.name: v.neutral for v in problem.variables}) > 1.0


def test_both_bounds_count(problem, budget):
    full = {v.name: v.neutral for v in problem.variables}
    problem = bounded(problem, problem.bounds[0].of(full) / 4)
    task = Task(problem, Decoder(problem), 1e3 * budget, 0)
    assert task.used(full) == pytest.approx(4.0)
    found = repaired(task, full, np.random.default_rng(0))
    assert problem.keeps_bounds(found)


def test_relief_is_the_smallest_that_relieves(problem, budget):
    task = Task(problem, Decoder(problem), budget, 0)
    full = {v.name: v.neutral for v in problem.variables}
    for change in reliefs(task, full):
        [(name, option)] = change.items()
        assert task.used(full | change) < task.used(full)
        for nearer in range(option + 1, full[name]):
            assert task.used(full | {name: nearer}) >= task.used(full)


def test_netadapt_walks_from_the_untouched_widths_to_the_budget(problem, budget, measured):
    found = search(problem, budget, measured, "netadapt", 120)
    first, last = found.evaluated[0], found.evaluated[-1]
    assert all(first.assignment[v.name] == v.neutral for v in problem.variables if "th:" in v.name)
    assert first.step
    assert not last.step
    used = [e.latency_ns for e in found.evaluated]
    assert used[0] == max(used)
    random = search(problem, budget, measured, "random", 5)
    assert found.best.loss < random.best.loss


def test_netadapt_is_content_with_what_fits_already(problem, measured):
    roomy = 2 * problem.latency_ns({v.name: v.neutral for v in problem.variables})
    found = search(problem, roomy, measured, "netadapt", 50)
    assert len(found.evaluated) == 1
    assert not found.best.step


def test_a_search_cut_short_on_its_way_still_has_an_answer(problem, budget, measured):
    found = search(problem, budget, measured, "netadapt", 2)
    assert found.evaluated[0].step
    assert found.best.latency_ns <= budget
    late = search(problem, budget, measured, "netadapt", 50, seconds=0.0)
    assert late.best.assignment == Decoder(problem).decode(budget).assignment


def test_evolution_improves_on_its_own_beginnings(problem, budget, measured):
    found = search(problem, budget, measured, "evolution", 120, seed=1)
    assert found.best.loss < found.best_so_far[19]
    assert (
        found.evaluated[0].assignment
        == search(problem, budget, measured, "uniform", 1).best.assignment
    )


@pytest.mark.parametrize("strategy", ["tpe", "gp"])
def test_optunas_samplers_learn_from_the_history(strategy):
    problem = residual_chain(8, 6, 1, kernels=False, branches=False)
    budget = budget_between(problem, Decoder(problem).fastest().latency_ns, 0.35)
    rng = np.random.default_rng(3)
    weights = {k: float(rng.normal(0, 1.2)) for k in problem.knobs}

    def measured(assignment):
        return problem.estimated_loss(assignment, weights)

    found = search(problem, budget, measured, strategy, 16, seed=2)
    assert found.evaluated[0].assignment == Decoder(problem).decode(budget).assignment
    assert found.best.loss < found.evaluated[0].loss
    assert search(problem, budget, measured, strategy, 16, seed=2) == found
