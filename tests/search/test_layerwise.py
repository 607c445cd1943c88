"""The published search of one layer after another (Guerra et al., section 3.6 of its tests)."""

from collections.abc import Callable

import numpy as np
import pytest

from hwprune.search.decode import Decoder
from hwprune.search.layerwise import Layerwise
from hwprune.search.problem import Assignment, Problem, Variable
from hwprune.search.strategy import Evaluated, Task
from hwprune.search.study import search
from hwprune.testing.problems import bounded, budget_between, residual_chain

LAYERS, OPTIONS = 3, 40  # 25 of the options within 40 %


@pytest.fixture(scope="module")
def fine() -> Problem:
    return residual_chain(LAYERS, OPTIONS, 1, kernels=False, branches=False)


def truth(problem: Problem) -> Callable[[Assignment], float]:
    rng = np.random.default_rng(5)
    hidden = {k: float(rng.normal(0, 1.2)) for k in problem.knobs}
    return lambda assignment: 1.0 + problem.estimated_loss(assignment, hidden)


def full(problem: Problem) -> dict[str, int]:
    return {v.name: v.neutral for v in problem.variables}


def moderate(variable: Variable) -> list[int]:
    """Options that cut 40 % at most."""
    return [o for o in range(variable.size) if variable.cut(o) <= 0.4 + 1e-9]


def task_within(problem: Problem, budget: str) -> Task:
    """Time or bytes at most three quarters of the whole network's, or both open."""
    time = problem.latency_ns(full(problem)) * (0.75 if budget == "time" else 2.0)
    if budget == "size":
        problem = bounded(problem, 0.75 * problem.bounds[0].of(full(problem)))
    return Task(problem, Decoder(problem), time, 0, evaluations=1000)


def run(task: Task) -> tuple[Layerwise, list[Evaluated]]:
    """The whole search; every proposal must be within the bounds, and asked once."""
    strategy, history, evaluate = Layerwise(task), list[Evaluated](), truth(task.problem)
    while (proposal := strategy.propose(history)) is not None:
        found = proposal.assignment
        assert task.used(found) <= 1.0
        assert not proposal.step
        latency = task.problem.latency_ns(found)
        history.append(Evaluated(found, evaluate(found), latency))
    assert len({e.key for e in history}) == len(history)
    return strategy, history


@pytest.mark.parametrize("budget", ["none", "time", "size"])
def test_thirteen_evaluations_a_layer_of_which_the_best_stays(fine: Problem, budget: str) -> None:
    task = task_within(fine, budget)
    strategy, history = run(task)
    trace = strategy.trace(history)
    widths = {v.name: v for v in fine.variables}
    assert list(trace) == list(reversed(widths))  # deepest first
    decided: dict[str, int] = {}
    for name, probed in trace.items():
        fit = [o for o in moderate(widths[name]) if task.completed(decided | {name: o})]
        assert len(probed) == min(13, len(fit))
        assert probed.keys() <= set(fit)
        decided[name] = min(probed, key=lambda o: (probed[o], -o))
        assert decided[name] in probed
        for option, loss in probed.items():  # each is an evaluation with all before it decided
            alike = decided | {name: option}
            assert any(e.loss == loss and alike.items() <= e.assignment.items() for e in history)
    assert min(e.loss for e in history) <= min(trace[next(reversed(trace))].values())
    thirteen = [name for name, probed in trace.items() if len(probed) == 13]
    assert len(thirteen) >= (len(trace) if budget == "none" else 2)
    known = sum(map(len, trace.values())) - len(history)  # the best of a layer, asked by the next
    assert 0 <= known < len(trace)


def test_nothing_20_and_40_percent_come_first_then_five_by_the_seed_alone(fine: Problem) -> None:
    task = task_within(fine, "none")
    history = run(task)[1]
    cuts = [widths_cut(fine, e, -1) for e in history[:13]]
    assert cuts[:3] == pytest.approx([0.0, 0.2, 0.4])
    other = Task(task.problem, task.decoder, task.budget_ns, 0, evaluations=1000)
    shuffled = [Evaluated(e.assignment, -e.loss, e.latency_ns) for e in history[:7]]
    again = Layerwise(other).propose(shuffled)  # losses decide nothing before the ninth
    assert again is not None
    assert again.assignment == history[7].assignment
    reversed_losses = [Evaluated(e.assignment, -e.loss, e.latency_ns) for e in history[:12]]
    steered = Layerwise(other).propose(reversed_losses)
    assert steered is not None
    assert steered.assignment != history[12].assignment


def widths_cut(problem: Problem, evaluated: Evaluated, which: int) -> float:
    variable = problem.variables[which]
    return variable.cut(evaluated.assignment[variable.name])


def test_model_steps_beat_random_ones_on_a_narrow_optimum(fine: Problem) -> None:
    """The last five of a layer come nearer to a valley that random ones miss."""
    task = task_within(fine, "none")
    strategy, history, name = Layerwise(task), list[Evaluated](), fine.variables[-1].name
    for _ in range(13):
        proposal = strategy.propose(history)
        assert proposal is not None
        loss = (proposal.assignment[name] - 32.0) ** 2
        history.append(Evaluated(proposal.assignment, loss, 0.0))
    losses = [e.loss for e in history]
    assert min(losses[8:]) <= min(losses[:8])
    assert min(losses) <= 1.0


def test_a_budget_beyond_40_percent_of_a_layer_takes_more_of_it(fine: Problem) -> None:
    tight = budget_between(fine, Decoder(fine).fastest().latency_ns, 0.02)
    task = Task(fine, Decoder(fine), tight, 0, evaluations=1000)
    strategy, history = run(task)
    cut = [max(v.cut(e.assignment[v.name]) for v in fine.variables) for e in history]
    assert min(cut) > 0.4
    assert all(strategy.trace(history).values())


def test_few_evaluations_are_shared_and_few_options_all_tried(fine: Problem) -> None:
    found = search(fine, 1e9, truth(fine), "guerra", 4 * len(fine.variables))
    deepest = fine.variables[-1].name
    assert len({e.assignment[deepest] for e in found.evaluated[:4]}) == 4
    assert len({e.assignment[deepest] for e in found.evaluated[4:]}) == 1
    coarse = residual_chain(LAYERS, 8, 1, kernels=False, branches=False)
    strategy, history = run(Task(coarse, Decoder(coarse), 1e9, 0, evaluations=1000))
    for probed in strategy.trace(history).values():
        assert sorted(probed) == [4, 5, 6, 7]  # 37.5 % at most


def test_shares_say_what_an_option_cuts() -> None:
    assert Variable("width:a", 4).cut(0) == 0.75
    assert Variable("width:a", 3, (0.1, 0.7, 1.0)).cut(1) == pytest.approx(0.3)
