"""From ratios to legal widths: rounded up where there is time, and branches that may come back."""

import numpy as np
import pytest
import torch

from hwprune.differentiable.allocation import Aim, Allocation, toward
from hwprune.errors import InfeasibleError
from hwprune.graph.coupling import couple
from hwprune.latency.space import SearchSpace
from hwprune.search.decode import Decoder
from hwprune.search.problem import Factor, Problem, Variable
from hwprune.testing.networks import build, residual

FULL = 8
WIDTHS = (2, 4, 6, FULL)
SPACE = SearchSpace({n: tuple({n: w} for w in WIDTHS) for n in "ab"}, (), {"k": ("fp32", "int8")})
RATIOS = {"width:a": 0.6, "width:b": 0.3}


def problem():
    """A channel takes 10 ns, the second kernel 5 ns less than the first."""
    names = ("width:a", "width:b")
    variables = *(Variable(n, len(WIDTHS)) for n in names), Variable("kernel:k", 2)
    latency = [Factor((n,), 10.0 * np.array(WIDTHS)) for n in names]
    latency.append(Factor(("kernel:k",), np.array([5.0, 0.0])))
    return Problem(variables, tuple(latency), (), 20.0)


@pytest.mark.parametrize(
    ("budget", "widths"), [(125.0, (6, 4)), (115.0, (6, 2)), (85.0, (4, 2)), (185.0, (FULL, FULL))]
)
def test_ratios_are_rounded_as_the_time_allows(budget, widths):
    found = Allocation(SPACE, problem(), budget, {"kernel:k": 0})
    decoded = found.nearest(RATIOS)
    assert decoded.latency_ns <= budget
    assert tuple(found.widths(RATIOS).values()) == widths
    assert decoded.assignment["kernel:k"] == 0


def test_what_was_fixed_gives_way_before_the_budget_does():
    assert Allocation(SPACE, problem(), 62.0, {"kernel:k": 0}).nearest(RATIOS).assignment == {
        "width:a": 0, "width:b": 0, "kernel:k": 1
    }  # fmt: skip


def test_what_nothing_can_keep_is_said():
    with pytest.raises(InfeasibleError, match="time cannot be kept: the narrowest widths take 65"):
        Allocation(SPACE, problem(), 62.0, {"kernel:k": 0}).check()
    Allocation(SPACE, problem(), 65.0, {"kernel:k": 0}).check()


def test_variables_with_one_option_are_not_trained():
    space = SearchSpace({"a": SPACE.widths["a"], "b": ({"b": FULL},)}, (), {})
    variables = Variable("width:a", len(WIDTHS)), Variable("width:b", 1)
    latency = (Factor(("width:b", "width:a"), np.array([[20.0, 40.0, 60.0, 80.0]])),)
    found = Allocation(space, Problem(variables, latency, ()), 50.0, {})
    assert list(found.groups) == ["width:a"]
    assert found.relaxed.used(torch.tensor([0.5])).tolist() == [0.8]


@pytest.fixture(scope="module")
def branched():
    """A network with one residual branch that the knapsack has taken out."""
    coupling = couple(build(residual, stem=8))
    (branch,) = coupling.branches
    inside = next(g for g in coupling.prunable if set(g.producers) <= set(branch.nodes))
    stream = next(g for g in coupling.prunable if g is not inside)
    options = {g.name: (g.width // 2, g.width) for g in (stream, inside)}
    widths = {n: tuple({n: w} for w in ws) for n, ws in options.items()}
    kernels = {inside.producers[0]: ("fp32", "int8"), stream.producers[0]: ("fp32", "int8")}
    space = SearchSpace(widths, (branch.name,), kernels)
    names = {"branch": f"branch:{branch.name}", "inside": f"width:{inside.name}"}
    names |= {"stream": f"width:{stream.name}"}
    variables = tuple(Variable(n, s) for n, s in space.sizes.items())
    of_inside = Factor((names["inside"], names["branch"]), np.array([[0.0, 30.0], [0.0, 60.0]]))
    latency = of_inside, Factor((names["stream"],), np.array([50.0, 100.0]))
    fixed = {v.name: v.neutral for v in variables} | {names["branch"]: 0}
    return coupling, Allocation(space, Problem(variables, latency, ()), 100.0, fixed), names


def test_what_lies_in_a_branch_that_is_out_is_idle(branched):
    coupling, allocation, names = branched
    (branch,) = allocation.dropped(coupling)
    kernel = next(f"kernel:{n}" for n in allocation.space.kernels if n in branch.nodes)
    idle = allocation.idle(coupling) & set(allocation.problem.sizes)
    assert idle == {names["branch"], names["inside"], kernel}


@pytest.mark.parametrize(("budget", "kept"), [(110.0, 0), (135.0, 1), (165.0, 1)])
def test_a_branch_comes_back_where_there_is_time(branched, budget, kept):
    coupling, allocation, names = branched
    aim = allocation.aim(coupling, {names["stream"]: 0.99, names["inside"]: 0.99})
    assert set(aim.ratios) == {names["stream"]}
    found = Decoder(toward(allocation.problem, allocation.space, aim)).decode(budget).assignment
    assert found[names["branch"]] == kept
    assert found[names["stream"]] == 1
    pinned = Aim(aim.ratios, allocation.fixed)
    found = Decoder(toward(allocation.problem, allocation.space, pinned)).decode(budget)
    assert found.assignment[names["branch"]] == 0
