import json

import numpy as np
import pytest

from hwprune.errors import InfeasibleError, StoreError, UsageError
from hwprune.search.baselines import uniform
from hwprune.search.catalogue import STRATEGIES
from hwprune.search.decode import Decoder
from hwprune.search.problem import Factor, Problem
from hwprune.search.strategy import Task
from hwprune.search.study import search


class Killed(Exception):
    pass


@pytest.fixture
def measured(problem, hidden):
    """A measured loss that weighs the layers otherwise than the estimate does."""
    calls = []

    def evaluate(assignment):
        calls.append(dict(assignment))
        return problem.estimated_loss(assignment, hidden)

    evaluate.calls = calls
    return evaluate


@pytest.mark.parametrize("strategy", sorted(STRATEGIES.keys() - {"exhaustive"}))
def test_everything_evaluated_meets_the_budget_once(problem, budget, measured, strategy):
    seen = []
    found = search(problem, budget, measured, strategy, 9, 1, progress=lambda *a: seen.append(a))
    for e in found.evaluated:
        tables = [f.table[tuple(e.assignment[v] for v in f.scope)] for f in problem.latency]
        assert sum(tables) + problem.constant_ns == pytest.approx(e.latency_ns)
        assert e.step or e.latency_ns <= budget
    texts = [json.dumps(a) for a in measured.calls]
    assert len(texts) == len(set(texts)) == len(found.evaluated)
    told = [(done, total, best.loss if best else np.inf) for done, total, best in seen]
    assert told == [(i + 1, 9, b) for i, b in enumerate(found.best_so_far)]
    losses = [e.loss for e in found.evaluated if not e.step]
    assert found.best.loss == found.best_so_far[-1] == min(losses)


def test_the_first_of_bo_is_the_knapsack_and_the_last_no_worse(problem, budget, measured):
    [plain] = search(problem, budget, measured, "knapsack", 10).evaluated
    found = search(problem, budget, measured, "bo", 10)
    assert plain.assignment == Decoder(problem).decode(budget).assignment
    assert found.evaluated[0].assignment == plain.assignment
    assert found.best.loss <= plain.loss


def test_uniform_is_the_widest_share_within_the_budget(problem, budget):
    task = Task(problem, Decoder(problem), budget, 0)
    found = uniform(task)
    options = {o for v, o in found.items() if v.startswith("width:")}
    assert len(options) == 1
    wider = found | {v: o + 1 for v, o in found.items() if v.startswith("width:")}
    widths = {v: o for v, o in wider.items() if not v.startswith("kernel:")}
    with pytest.raises(InfeasibleError):
        task.decode(fixed=widths)


def test_uniform_gives_up_branches_only_when_it_must(problem):
    least = Decoder(problem).fastest().latency_ns
    found = uniform(Task(problem, Decoder(problem), least * 1.02, 0))
    assert problem.latency_ns(found) <= least * 1.02
    assert any(v.startswith("branch:") and o == 0 for v, o in found.items())


@pytest.mark.parametrize("strategy", ["random", "bo"])
def test_a_killed_search_resumes_on_the_same_trace(problem, budget, measured, strategy, tmp_path):
    store = tmp_path / "deep" / "trials.db"
    whole = search(problem, budget, measured, strategy, 9, seed=3)
    before = len(measured.calls)

    def until_killed(assignment):
        if len(measured.calls) == before + 7:
            raise Killed
        return measured(assignment)

    with pytest.raises(Killed):
        search(problem, budget, until_killed, strategy, 9, seed=3, storage=store)
    resumed = search(problem, budget, measured, strategy, 9, seed=3, storage=store)
    assert resumed == whole
    assert len(measured.calls) - before == 9


def test_a_finished_search_is_not_run_again_but_may_be_extended(
    problem, budget, measured, tmp_path
):
    store = tmp_path / "trials.db"
    search(problem, budget, measured, "random", 4, storage=store)
    search(problem, budget, measured, "random", 4, storage=store)
    assert len(measured.calls) == 4
    found = search(problem, budget, measured, "random", 6, storage=store)
    assert len(found.evaluated) == len(measured.calls) == 6


def test_losses_are_shared_across_strategies_and_corrected_tables(
    problem, budget, measured, tmp_path
):
    store = tmp_path / "trials.db"
    search(problem, budget, measured, "knapsack", 1, storage=store)
    search(problem, budget, measured, "bo", 1, storage=store)
    slower = tuple(Factor(f.scope, f.table * 1.25) for f in problem.latency)
    corrected = Problem(problem.variables, slower, problem.loss, problem.constant_ns * 1.25)
    search(corrected, budget * 1.25, measured, "knapsack", 1, storage=store)
    assert len(measured.calls) == 1


@pytest.mark.parametrize("strategy", ["random", "bo"])
def test_units_of_loss_and_latency_do_not_matter(problem, budget, measured, strategy):
    scaled = tuple(Factor(f.scope, f.table * 1024.0) for f in problem.latency)
    other = Problem(problem.variables, scaled, problem.loss, problem.constant_ns * 1024.0)
    one = search(problem, budget, measured, strategy, 10, seed=2)
    two = search(other, budget * 1024.0, lambda a: 8.0 * measured(a) + 32.0, strategy, 10, seed=2)
    assert [e.assignment for e in one.evaluated] == [e.assignment for e in two.evaluated]


def test_losses_that_are_not_finite_do_not_stop_the_search(problem, budget, tmp_path):
    losses = iter([1.0, np.inf, np.nan, 0.5, np.inf, np.inf, np.inf, np.inf, 0.2, 0.1])
    store = tmp_path / "trials.db"
    found = search(problem, budget, lambda _: next(losses), "bo", 10, storage=store)
    assert found.best.loss == 0.1
    again = search(problem, budget, lambda _: 9.0, "bo", 10, storage=store)
    assert again == found


def test_time_runs_out_but_never_before_the_first(problem, budget, measured):
    found = search(problem, budget, measured, "random", 50, seconds=0.0)
    assert len(found.evaluated) == 1
    assert found.late
    assert not search(problem, budget, measured, "random", 3).late


def test_what_the_clock_ended_stays_ended_unless_more_is_asked_for(
    problem, budget, measured, tmp_path
):
    store = tmp_path / "trials.db"
    found = search(problem, budget, measured, "random", 5, storage=store, seconds=0.0)
    assert search(problem, budget, measured, "random", 5, storage=store) == found
    assert len(search(problem, budget, measured, "random", 6, storage=store).evaluated) == 6


def test_wrong_calls_are_refused(problem, budget, measured):
    with pytest.raises(UsageError, match="no search strategy 'bayes'"):
        search(problem, budget, measured, "bayes", 3)
    with pytest.raises(UsageError, match="at least one"):
        search(problem, budget, measured, "bo", 0)
    with pytest.raises(InfeasibleError):
        search(problem, 1.0, measured, "bo", 3)


def test_a_damaged_storage_is_named(problem, budget, measured, tmp_path):
    store = tmp_path / "trials.db"
    store.write_bytes(b"this is no database, but long enough to look like a file" * 50)
    with pytest.raises(StoreError, match=r"trials\.db"):
        search(problem, budget, measured, "knapsack", 1, storage=store)
