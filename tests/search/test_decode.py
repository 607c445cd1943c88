import numpy as np
import pytest

from hwprune.errors import InfeasibleError
from hwprune.search.decode import Decoder
from hwprune.search.problem import Factor, Problem, Variable
from hwprune.testing.problems import budget_between, least_loss, milp_bound, residual_chain


@pytest.mark.parametrize("seed", range(12))
def test_small_problems_against_every_assignment(seed):
    problem = residual_chain(2 + seed % 2, 3, seed)
    decoder = Decoder(problem)
    fastest = decoder.fastest().latency_ns
    worst = decoder.fastest().loss
    for share in (0.0, 0.3, 0.6, 1.0):
        budget = budget_between(problem, fastest, share)
        found = decoder.decode(budget)
        assert found.latency_ns == problem.latency_ns(found.assignment) <= budget
        assert found.loss == pytest.approx(problem.estimated_loss(found.assignment))
        best = least_loss(problem, budget)
        assert found.loss * (1 - found.gap) <= best + 1e-9  # the gap is a bound
        assert found.loss - best <= 0.2 * worst


def test_most_small_problems_are_solved_to_the_optimum():
    hits = 0
    for seed in range(20):
        problem = residual_chain(2, 3, seed)
        decoder = Decoder(problem)
        budget = budget_between(problem, decoder.fastest().latency_ns, 0.45)
        hits += decoder.decode(budget).loss <= least_loss(problem, budget) + 1e-9
    assert hits >= 18


@pytest.mark.parametrize(
    ("groups", "seed", "kernels"), [(12, 0, False), (16, 1, False), (8, 2, True)]
)
def test_middle_sizes_against_integer_programming(groups, seed, kernels):
    problem = residual_chain(groups, 6, seed, kernels=kernels)
    decoder = Decoder(problem)
    budget = budget_between(problem, decoder.fastest().latency_ns, 0.4)
    optimum, bound = milp_bound(problem, budget, seconds=20)
    found = decoder.decode(budget)
    assert decoder.exact()
    assert bound <= found.loss * (1 + 1e-6)
    assert found.loss <= 1.04 * optimum


def test_large_problems_come_close_to_their_bound():
    problem = residual_chain(60, 8, 3)
    decoder = Decoder(problem)
    budget = budget_between(problem, decoder.fastest().latency_ns, 0.4)
    assert decoder.decode(budget).gap < 0.02


def test_fixed_variables_stay_and_give_the_same_as_a_free_search():
    problem = residual_chain(10, 5, 0)
    decoder = Decoder(problem)
    budget = budget_between(problem, decoder.fastest().latency_ns, 0.5)
    free = decoder.decode(budget)
    kernels = {v: o for v, o in free.assignment.items() if v.startswith("kernel:")}
    found = decoder.decode(budget, fixed=kernels)
    assert kernels.items() <= found.assignment.items()
    assert found.loss == pytest.approx(free.loss, rel=0.03)


def test_everything_may_be_fixed():
    problem = residual_chain(3, 3, 0)
    fixed = {v.name: v.neutral for v in problem.variables}
    found = Decoder(problem).decode(problem.latency_ns(fixed), fixed=fixed)
    assert found.assignment == fixed


def test_multipliers_protect_what_they_raise():
    problem = residual_chain(12, 8, 4, kernels=False, branches=False)
    decoder = Decoder(problem)
    budget = budget_between(problem, decoder.fastest().latency_ns, 0.3)
    low, high = (decoder.decode(budget, {"width:5": x}) for x in (-6.0, 6.0))
    assert low.assignment["width:5"] < high.assignment["width:5"]
    assert high.loss == pytest.approx(problem.estimated_loss(high.assignment, {"width:5": 6.0}))


def test_the_least_latency_is_exactly_reachable_and_nothing_below_it():
    problem = residual_chain(6, 4, 1)
    decoder = Decoder(problem)
    least = decoder.fastest().latency_ns
    assert decoder.decode(least).latency_ns == least
    with pytest.raises(InfeasibleError, match=f"{least:.0f} ns"):
        decoder.decode(least * (1 - 1e-9))


def test_a_loose_budget_keeps_everything_that_costs_quality():
    problem = residual_chain(6, 4, 1, kernels=False)
    found = Decoder(problem).decode(1e12)
    assert found.loss == pytest.approx(0.0)
    assert found.gap == 0.0


def test_a_variable_that_nothing_depends_on_keeps_what_it_has():
    variables = (Variable("width:a", 3), Variable("kernel:b", 2), Variable("width:c", 2))
    tables = (Factor(("width:c",), np.array([1.0, 2.0])),)
    found = Decoder(Problem(variables, tables, tables)).decode(10.0)
    assert found.assignment == {"width:a": 2, "kernel:b": 0, "width:c": 0}


def test_an_entangled_problem_is_still_decoded():
    rng = np.random.default_rng(0)
    names = [f"width:{i}" for i in range(12)]
    pairs = [(a, b) for i, a in enumerate(names) for b in names[:i]]
    latency = [Factor(p, np.add.outer(np.arange(4.0), np.arange(4.0))) for p in pairs]
    loss = [Factor(p, np.sort(rng.gamma(1.0, size=16))[::-1].reshape(4, 4)) for p in pairs]
    problem = Problem(tuple(Variable(n, 4) for n in names), tuple(latency), tuple(loss))
    exact, local = Decoder(problem, largest_table=4**12), Decoder(problem, largest_table=300)
    assert exact.exact()
    assert not local.exact()
    assert local.decode(150.0).latency_ns <= 150.0
    assert local.decode(150.0).gap == np.inf


@pytest.mark.parametrize(
    ("scope", "shape", "message"),
    [
        (("width:x",), (2,), "unknown"),
        (("width:a",), (4,), "not \\(3,\\)"),
        (("width:a", "width:a"), (3, 3), "twice"),
    ],
)
def test_a_wrong_factor_is_refused(scope, shape, message):
    with pytest.raises(ValueError, match=message):
        Problem((Variable("width:a", 3),), (Factor(scope, np.zeros(shape)),), ())


def test_what_no_longer_matters_takes_the_neutral_option():
    """A width and a kernel inside a branch count only while the branch is kept."""
    inside = np.array([[0.0, 1.0], [0.0, 2.0], [0.0, 4.0]])  # width x branch
    problem = Problem(
        (Variable("width:a", 3), Variable("branch:b", 2), Variable("kernel:c", 2)),
        (
            Factor(("width:a", "branch:b"), inside),
            Factor(("kernel:c", "branch:b"), np.array([[0.0, 2.0], [0.0, 1.0]])),
        ),
        (Factor(("branch:b",), np.array([1.0, 0.0])),),
    )
    gone = {"width:a": 0, "branch:b": 0, "kernel:c": 1}
    assert problem.settled(gone) == {"width:a": 2, "branch:b": 0, "kernel:c": 0}
    kept = gone | {"branch:b": 1}
    assert problem.settled(kept) == kept
    assert Decoder(problem).decode(0.5).assignment == problem.settled(gone)
