"""The augmented Lagrangian on problems whose solution and multipliers are known."""

import pytest
import torch

from hwprune.differentiable.lagrangian import Lagrangian

WANTED = torch.tensor([1.0, 0.5, 0.2], dtype=torch.float64)


def solved(bounds, most=100.0):
    """Least squared distance from WANTED under bounds that are told by `bounds(x)`."""
    x = WANTED.clone().requires_grad_()
    lagrangian = Lagrangian(len(bounds(x)), 4.0, most)
    for _ in range(60):
        for _ in range(40):
            loss = (x - WANTED).square().sum() + lagrangian.term(bounds(x))
            [slope] = torch.autograd.grad(loss, x)
            with torch.no_grad():
                x -= 0.03 * slope
        lagrangian.update(bounds(x))
    return x.detach(), lagrangian.multipliers


def test_a_bound_that_matters_holds_exactly_and_has_its_price():
    """Projection on sum(x) <= 1.1: all lose 0.2; the multiplier is d loss / d bound."""
    x, prices = solved(lambda x: torch.stack([x.sum() / 1.1, x[2]]))
    torch.testing.assert_close(x, WANTED - 0.2, rtol=0, atol=1e-6)
    assert prices.tolist() == pytest.approx([2 * 0.2 * 1.1, 0.0], abs=1e-5)


def test_a_bound_that_holds_anyway_costs_nothing():
    x, prices = solved(lambda x: torch.stack([x.sum() / 2.0]))
    torch.testing.assert_close(x, WANTED)
    assert prices.tolist() == [0.0]


def test_multipliers_are_safeguarded():
    lagrangian = Lagrangian(1, 4.0, 3.0)
    for _ in range(100):
        lagrangian.update(torch.tensor([5.0], dtype=torch.float64))
    assert lagrangian.multipliers.tolist() == [3.0]


@pytest.mark.parametrize("used", [0.7, 0.99, 1.0, 1.3])
def test_the_term_is_that_of_the_formula(used):
    lagrangian = Lagrangian(1, 4.0, 3.0)
    lagrangian.multipliers = torch.tensor([0.5], dtype=torch.float64)
    c = used - 1
    found = float(lagrangian.term(torch.tensor([used], dtype=torch.float64)))
    if 0.5 + 4 * c > 0:
        assert found == pytest.approx(0.5 * c + 2 * c**2)
    else:
        assert found == pytest.approx(-(0.5**2) / 8)
