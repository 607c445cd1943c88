"""Relaxed sums: themselves at every corner, straight lines between, gradients that are right."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hwprune.differentiable.relaxed import relax
from hwprune.search.problem import Bound
from hwprune.testing.problems import residual_chain

BUDGET = 500.0


def chain(seed):
    problem = residual_chain(6, 5, seed)
    file = replace(problem.bounds[0], most=4000.0)
    return replace(problem, bounds=(file, Bound("nothing", (), 3.0, 6.0)))


@pytest.fixture(params=[0, 1, 2])
def problem(request):
    return chain(request.param)


def shares_of(problem):
    rng = np.random.default_rng(7)
    widths = [v for v in problem.variables if v.name.startswith("width:")]
    found = {v.name: np.sort(rng.uniform(0.05, 0.95, v.size)) for v in widths}
    return {name: np.append(s[:-1], 1.0) for name, s in found.items()}


def test_it_is_the_problem_at_every_hard_assignment(problem):
    rng, shares = np.random.default_rng(0), shares_of(problem)
    for _ in range(60):
        a = {v.name: int(rng.integers(v.size)) for v in problem.variables}
        relaxed = relax(problem, BUDGET, shares, a)
        ratios = torch.tensor([s[a[name]] for name, s in shares.items()], dtype=torch.float64)
        time, file, nothing = relaxed.used(ratios).tolist()
        assert time * BUDGET == pytest.approx(problem.latency_ns(a), rel=1e-12)
        assert file * 4000.0 == pytest.approx(problem.bounds[0].of(a), rel=1e-12)
        assert nothing == 0.5
    assert relaxed.what == ("time", "the file", "nothing")


def test_between_two_options_it_is_a_straight_line(problem):
    shares = shares_of(problem)
    fixed = {v.name: v.neutral for v in problem.variables}
    relaxed = relax(problem, BUDGET, shares, fixed)
    ratios = torch.full((len(shares),), 0.6, dtype=torch.float64)
    for i, options in enumerate(shares.values()):
        ends = [ratios.clone(), ratios.clone(), ratios.clone()]
        places = options[1], 0.3 * options[1] + 0.7 * options[2], options[2]
        for end, at in zip(ends, places, strict=True):
            end[i] = at
        low, middle, high = (relaxed.used(end) for end in ends)
        torch.testing.assert_close(middle, 0.3 * low + 0.7 * high)
    narrowest = torch.tensor([s[0] for s in shares.values()])
    torch.testing.assert_close(relaxed.used(narrowest), relaxed.used(narrowest / 2))


def test_its_gradient_is_that_of_finite_differences(problem):
    shares = shares_of(problem)
    fixed = {v.name: v.neutral for v in problem.variables}
    relaxed = relax(problem, BUDGET, shares, fixed)
    ratios = torch.linspace(0.3, 0.9, len(shares), dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(relaxed.used, (ratios,), eps=1e-7, atol=1e-6)


def test_a_variable_with_one_option_is_no_variable():
    problem = chain(0)
    shares = {name: s for name, s in shares_of(problem).items() if name != "width:0"}
    fixed = {v.name: v.neutral for v in problem.variables}
    whole = relax(problem, BUDGET, shares_of(problem), fixed)
    without = relax(problem, BUDGET, shares, fixed)
    full = torch.ones(len(shares) + 1, dtype=torch.float64)
    torch.testing.assert_close(whole.used(full), without.used(full[1:]))
