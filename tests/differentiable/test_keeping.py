"""Keep probabilities: their mean, their gradient against finite differences, and what is drawn."""

import numpy as np
import pytest
import torch

from hwprune.differentiable.keeping import (
    keep_probabilities,
    log_importance,
    most_important,
    sample,
)

WIDTHS = (3, 64, 17)
INSIDE = torch.arange(max(WIDTHS)) < torch.tensor(WIDTHS)[:, None]


def importance(seed, spread=1.0):
    drawn = np.random.default_rng(seed).lognormal(0.0, spread, INSIDE.shape)
    return torch.where(INSIDE, torch.from_numpy(drawn), 0.0)


@pytest.mark.parametrize("spread", [0.0, 0.01, 1.0, 5.0])
@pytest.mark.parametrize("sharpness", [1.0, 4.0, 20.0])
@pytest.mark.parametrize("ratio", [0.02, 0.3, 0.5, 0.99, 0.9999])
def test_the_mean_is_the_ratio(spread, sharpness, ratio):
    logs = log_importance(importance(0, spread), INSIDE)
    p = keep_probabilities(torch.full((3,), ratio).double(), logs, INSIDE, sharpness)
    means = p.sum(1) / INSIDE.sum(1)
    assert float((means - ratio).abs().max()) < 0.02
    assert float((means - ratio).abs().max()) < 1e-6
    assert float(p.min()) >= 0
    assert float(p.max()) <= 1
    assert bool((p[~INSIDE] == 0).all())


def test_they_are_those_of_the_paper():
    b = importance(1)
    logs = log_importance(b, INSIDE)
    p = keep_probabilities(torch.tensor([0.4, 0.6, 0.2]).double(), logs, INSIDE, 3.0)
    for row, width in enumerate(WIDTHS):
        sharp = 3.0 / float(b[row, :width].log().std(correction=0))
        t = (1 - p[row, :width]) / p[row, :width]
        beta1 = b[row, :width] * t ** (1 / sharp)
        assert float(beta1.max() / beta1.min()) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("sharpness", [1.0, 6.0])
@pytest.mark.parametrize("ratio", [0.15, 0.5, 0.9, 0.9933])
def test_the_implicit_gradient_is_that_of_the_expectation(sharpness, ratio):
    """Of any smooth function of the probabilities, by finite differences of the solved ones."""
    logs, weights = log_importance(importance(2), INSIDE), importance(3) + 0.1

    def expectation(ratios):
        p = keep_probabilities(ratios, logs, INSIDE, sharpness)
        return (weights * p.square()).sum() + (weights * p).sum()

    ratios = torch.full((3,), ratio, dtype=torch.float64, requires_grad=True)
    [found] = torch.autograd.grad(expectation(ratios), ratios)
    for row in range(3):
        step = torch.zeros(3, dtype=torch.float64)
        step[row] = 1e-5
        ends = [float(expectation(ratios.detach() + s)) for s in (step, -step)]
        assert float(found[row]) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-3)


def test_the_gradient_stays_finite_where_everything_is_kept():
    logs = log_importance(importance(2), INSIDE)
    ratios = torch.full((3,), 1 - 1e-9, dtype=torch.float64, requires_grad=True)
    p = keep_probabilities(ratios, logs, INSIDE, 30.0)
    [slopes] = torch.autograd.grad(p.sum(), ratios)
    torch.testing.assert_close(slopes, torch.tensor(WIDTHS).double())


def test_draws_are_as_likely_as_they_should_be_and_pass_gradients_on():
    logs = log_importance(importance(4), INSIDE)
    ratios = torch.tensor([0.5, 0.3, 0.7], dtype=torch.float64, requires_grad=True)
    p = keep_probabilities(ratios, logs, INSIDE, 2.0)
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack([sample(p, INSIDE, generator) for _ in range(3000)])
    assert set(draws.detach().unique().tolist()) == {0.0, 1.0}
    assert bool((draws[:, ~INSIDE] == 0).all())
    assert bool((draws.sum(2) >= 1).all())
    wide = draws.detach().mean(0)[1]  # the narrow group is never left without a channel
    assert float((wide - p.detach()[1]).abs().max()) < 0.04
    [slopes] = torch.autograd.grad(draws[0].sum(), ratios)
    torch.testing.assert_close(slopes, torch.tensor(WIDTHS).double())


def test_the_most_important_stay():
    b = importance(5)
    gates = most_important(torch.tensor([0.03, 16.4, 17]), log_importance(b, INSIDE), INSIDE)
    assert gates.sum(1).tolist() == [1, 16, 17]
    kept = b[1, :64][gates[1, :64] == 1]
    assert float(kept.min()) > float(b[1, :64][gates[1, :64] == 0].max())
