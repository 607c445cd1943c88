import numpy as np
import pytest
import torch

from hwprune.quantize.encodings import Encoding
from hwprune.quantize.quantizers import activation_encoding, activation_module
from hwprune.quantize.ranges import RANGES, Range, candidates


def drawn(count: int = 20_000, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed))


def square_error(values: torch.Tensor, found: Range, bits: int) -> float:
    return float((found.rounded(values, bits) - values).square().sum())


@pytest.mark.parametrize(("low", "high", "bits"), [(-1.3, 3.1, 8), (0.0, 2.7, 8), (-1.0, 0.5, 4)])
def test_rounds_as_the_quantiser_and_the_encoding_do(low: float, high: float, bits: int) -> None:
    values = drawn()
    quantizer = activation_module(low == 0, low, high, bits)
    encoding: Encoding = activation_encoding(quantizer)
    rounded = Range(low, high).rounded(values, bits).numpy()
    stored = encoding.dequantize(encoding.quantize(values.numpy()))
    for other in (quantizer(values).detach().numpy(), stored):
        apart = np.abs(other - rounded)
        assert (apart > 1e-5).mean() < 0.001  # ties,
        assert apart.max() < 1.01 * encoding.scale  # by one step


def test_whole_range_holds_zero() -> None:
    assert candidates(drawn().abs() + 1)["minmax"].low == 0
    values = drawn()
    found = candidates(values)["minmax"]
    assert (found.low, found.high) == (float(values.min()), float(values.max()))


def test_outliers_are_cut() -> None:
    values = drawn()
    values[7] = 1000.0
    found = candidates(values)
    assert found["minmax"].high == 1000
    assert found["percentile"].high < 10
    assert found["percentile"].low == pytest.approx(float(values.min()), rel=0.2)


def test_least_error_is_the_least() -> None:
    values, bits = drawn(), 3
    found = candidates(values, bits)
    errors = {name: square_error(values, r, bits) for name, r in found.items()}
    assert errors["mse"] == min(errors.values())
    assert errors["mse"] < 0.8 * errors["minmax"]


def test_entropy_keeps_a_flat_distribution_and_cuts_a_long_tail() -> None:
    flat = torch.linspace(0, 1, 20_000)
    assert candidates(flat, bits=4)["entropy"].high > 0.95
    tailed = torch.cat([drawn().abs(), torch.linspace(4, 40, 40)])
    assert candidates(tailed, bits=4)["entropy"].high < 20


def test_a_tensor_of_zeros_has_a_range_for_every_method() -> None:
    assert candidates(torch.zeros(100)) == dict.fromkeys(RANGES, Range(0.0, 0.0))
    assert not Range(0.0, 0.0).rounded(torch.zeros(3)).any()
