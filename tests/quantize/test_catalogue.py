"""Every row of the table against the formula of its paper, in numpy."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from hwprune.errors import UsageError
from hwprune.quantize.catalogue import GROUP, WEIGHTS
from hwprune.quantize.kinds import WeightKind
from hwprune.quantize.quantizers import quantized_layer, weight_encoding

Weights = NDArray[np.float64]


def layer(kind: WeightKind, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return quantized_layer(nn.Conv2d(GROUP, 6, 3), kind)


def along(granularity: str, statistic: Callable[..., Any], weight: Weights) -> Any:
    axes = None if granularity == "tensor" else (1, 2, 3)
    return statistic(weight, axis=axes, keepdims=True)


def symmetric(weight: Weights, scale: Any, bits: int) -> Weights:
    top = 2 ** (bits - 1) - 1
    return np.asarray(np.clip(np.rint(weight / scale), -top, top) * scale)


def largest(weight: Weights, bits: int, granularity: str) -> Weights:
    scale = along(granularity, np.max, np.abs(weight)) / (2 ** (bits - 1) - 1)
    return symmetric(weight, scale, bits)


def least_error(weight: Weights, bits: int, granularity: str) -> Weights:
    """Over twentieths of the largest magnitude, then over tenths of those around the best one."""
    top = along(granularity, np.max, np.abs(weight)) / (2 ** (bits - 1) - 1)

    def best(shares: Weights) -> Weights:
        tries = [symmetric(weight, top * share, bits) for share in shares]
        errors = np.stack([along(granularity, np.sum, (weight - t) ** 2) for t in tries])
        return np.take_along_axis(np.stack(shares), errors.argmin(0)[None], 0)[0]

    coarse = best(np.stack([np.full(top.shape, i / 20) for i in range(1, 21)]))
    fine = best(np.stack([coarse + i / 200 for i in range(-9, 10)]))
    return symmetric(weight, top * fine, bits)


def asymmetric(weight: Weights, bits: int, granularity: str) -> Weights:
    low = np.minimum(along(granularity, np.min, weight), 0)
    high = np.maximum(along(granularity, np.max, weight), 0)
    scale = (high - low) / (2**bits - 1)
    zero = np.rint(-low / scale)
    return np.asarray((np.clip(np.rint(weight / scale + zero), 0, 2**bits - 1) - zero) * scale)


def power_of_two(weight: Weights, bits: int, granularity: str) -> Weights:
    top = along(granularity, np.max, np.abs(weight))
    scale = 2 ** np.ceil(np.log2(top)) / 2 ** (bits - 1)
    return symmetric(weight, scale, bits)


def binary(weight: Weights, bits: int, granularity: str) -> Weights:
    return np.where(weight >= 0, 1.0, -1.0)


def xnor(weight: Weights, bits: int, granularity: str) -> Weights:
    return np.asarray(np.sign(weight) * along(granularity, np.mean, np.abs(weight)))


def ternary(weight: Weights, bits: int, granularity: str) -> Weights:
    size = np.abs(weight)
    kept = size > 0.7 * along(granularity, np.mean, size)
    level = along(granularity, np.sum, size * kept) / along(granularity, np.sum, kept)
    return np.asarray(np.sign(weight) * kept * level)


def dorefa(weight: Weights, bits: int, granularity: str) -> Weights:
    unit = np.tanh(weight) / (2 * np.abs(np.tanh(weight)).max()) + 0.5
    found = np.asarray(2 * np.rint(unit * (2**bits - 1)) / (2**bits - 1) - 1)
    if granularity == "tensor":
        return found
    products, squares = (along("channel", np.sum, found * other) for other in (weight, found))
    return np.asarray(found * products / squares)


FORMULAS = {
    "max": largest,
    "mse": least_error,
    "slb": least_error,  # as long as nothing is trained
    "asymmetric": asymmetric,
    "power-of-two": power_of_two,
    "binary": binary,
    "xnor": xnor,
    "ternary": ternary,
    "dorefa": dorefa,
}
WIDTHS = {"binary": (1,), "xnor": (1,), "ternary": (2,), "dorefa": (4, 2)}
ROWS = [
    WeightKind(name, bits, granularity)
    for name, granularity in WEIGHTS
    if granularity != "group"
    for bits in WIDTHS.get(name, (8, 4, 2))
]


@pytest.mark.parametrize("kind", ROWS, ids=str)
def test_a_row_is_its_formula(kind: WeightKind) -> None:
    found = layer(kind)
    weight = found.weight.detach().numpy().astype(np.float64)
    expected = FORMULAS[kind.name](weight, kind.bits, kind.granularity)
    computed = found.quant_weight().value.detach().numpy()
    step = np.abs(np.diff(np.unique(expected.round(7)))).min()
    differing = np.abs(computed - expected) > 1e-5
    assert differing.mean() < 0.002  # ties only,
    assert np.abs(computed - expected).max() < 1.01 * max(step, 1e-5)  # by one step


@pytest.mark.parametrize("name", ["max", "asymmetric"])
@pytest.mark.parametrize("bits", [8, 4, 2])
def test_groups_of_inputs_have_scales_of_their_own(name: str, bits: int) -> None:
    torch.manual_seed(0)
    found: Any = quantized_layer(nn.Linear(3 * GROUP, 5), WeightKind(name, bits, "group"))
    weight = found.weight.detach().numpy().astype(np.float64)
    groups = weight.reshape(-1, GROUP, 1, 1)[:, :, :, :]
    expected = FORMULAS[name](groups, bits, "channel").reshape(weight.shape)
    computed = found.quant_weight().value.detach().numpy().reshape(weight.shape)
    np.testing.assert_allclose(computed, expected, atol=1e-5)


@pytest.mark.parametrize("kind", [k for k in ROWS if k.name != "asymmetric"], ids=str)
def test_encodings_stand_for_the_same_weights(kind: WeightKind) -> None:
    found = layer(kind)
    value = found.quant_weight().value.detach().numpy()
    encoding = weight_encoding(found, 0)
    np.testing.assert_allclose(encoding.dequantize(encoding.quantize(value)), value, atol=1e-6)


def test_the_scale_that_errs_least_errs_no_more_than_the_largest() -> None:
    for bits in (8, 4, 3, 2):
        kinds = [WeightKind(name, bits, "channel") for name in ("max", "mse")]
        errors = [(q.quant_weight().value - q.weight).square().mean((1, 2, 3))
                  for q in map(layer, kinds)]  # fmt: skip
        assert (errors[1] <= errors[0] + 1e-12).all()


def test_the_step_is_learned_with_the_gradient_of_its_paper() -> None:
    """Esser et al. 2020 (LSQ), eq. 3: round(w/s) - w/s within, +-top beyond.

    Beyond begins half a step later than in the paper, as brevitas clips after rounding.
    """
    torch.manual_seed(0)
    tailed = nn.Conv2d(GROUP, 6, 3)
    tailed.weight.data.normal_()
    found: Any = quantized_layer(tailed, WeightKind("mse", 3, "tensor"))
    found.train()
    value = found.quant_weight().value
    value.sum().backward()
    learned = found.weight_quant.tensor_quant.scaling_impl.value
    step = found.quant_weight().scale.item()
    ratio = found.weight.detach().double() / step
    inside = ratio.round().abs() <= 3
    assert not inside.all()
    gradient = torch.where(inside, ratio.round() - ratio, 3 * ratio.sign()).sum()
    assert learned.grad.item() * 3 == pytest.approx(gradient.item(), rel=1e-3)


@pytest.mark.parametrize(("name", "limit"), [("binary", 1.0), ("xnor", np.inf), ("dorefa", np.inf)])
def test_gradients_pass_straight_through(name: str, limit: float) -> None:
    found = layer(WeightKind(name, 1 if name != "dorefa" else 2, "tensor"))
    with torch.no_grad():
        found.weight[0, 0, 0, 0] = 1.5
    found.quant_weight().value.sum().backward()
    gradient = found.weight.grad
    assert (gradient[0, 0, 0, 0] == 0) == (limit < 1.5)
    assert (gradient[1:] > 0).all()


def test_an_unknown_row_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="no weight quantiser binary per channel") as caught:
        layer(WeightKind("binary", 1, "channel"))
    assert "binary per tensor" in caught.value.hint
