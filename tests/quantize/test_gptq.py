"""Oracles: the objective itself, and plain rounding."""

import pytest
import torch

from hwprune.quantize.gptq import gptq, inverse


def grid(values: torch.Tensor) -> torch.Tensor:
    return (values / 0.3).round().clamp(-3, 3) * 0.3


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def correlated(groups: int, columns: int) -> torch.Tensor:
    """Inputs, groups x rows x columns, of low rank and a little noise."""
    shared = drawn(groups, 500, 3) @ drawn(groups, 3, columns, seed=1)
    return shared + 0.3 * drawn(groups, 500, columns, seed=2)


@pytest.mark.parametrize(("groups", "columns"), [(1, 40), (1, 150), (4, 9)])
def test_products_are_nearer_than_with_plain_rounding(groups: int, columns: int) -> None:
    weight, x = 0.5 * drawn(groups, 8, columns, seed=3), correlated(groups, columns)
    found = gptq(weight, inverse(x.mT @ x), grid)
    torch.testing.assert_close(grid(found), found)

    def error(rounded: torch.Tensor) -> float:
        return float(((weight - rounded) @ x.mT).square().sum())

    assert error(found) < 0.5 * error(grid(weight))


def test_is_plain_rounding_where_inputs_are_independent() -> None:
    weight = drawn(2, 5, 70)
    found = gptq(weight, inverse(torch.eye(70).expand(2, 70, 70) * 4), grid)
    torch.testing.assert_close(found, grid(weight))


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, x = drawn(1, 6, 30), correlated(1, 30)
    whole = gptq(weight, inverse(x.mT @ x), grid)
    monkeypatch.setattr("hwprune.quantize.gptq._BLOCK", 7)
    torch.testing.assert_close(gptq(weight, inverse(x.mT @ x), grid), whole)


def test_a_column_without_input_is_rounded_alone() -> None:
    weight, x = drawn(1, 4, 6), correlated(1, 6)
    x[:, :, 2] = 0
    found = gptq(weight, inverse(x.mT @ x), grid)
    torch.testing.assert_close(found[:, :, 2], grid(weight[:, :, 2]))
    torch.testing.assert_close(gptq(weight, inverse(torch.zeros(1, 6, 6)), grid), grid(weight))
