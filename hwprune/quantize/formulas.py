"""Weight quantisers and ranges of ours; brevitas puts them into its layers.

A module gives what brevitas asks of a quantiser: the quantised weight, its scale (which broadcasts
against it), zero point and bit width. The value is an integer times the scale. Gradients pass
straight through the rounding (Bengio et al. 2013).
"""

from typing import Any

import torch
from torch import Tensor, nn

Quantised = tuple[Tensor, Tensor, Tensor, Tensor]

_THRESHOLD = 0.7  # of the mean magnitude
_COARSE, _FINE = 20, 9  # parts of the largest magnitude that ranges end at; between two of them


def least_error(rows: Tensor, highest: int | Tensor) -> Tensor:
    """The ends of the ranges that err least, rows x 1, where integers go from -highest to highest.

    `highest` is one for all rows, or rows x 1. Of each row's largest magnitude, twentieths are
    tried, and then tenths of those around the best.
    """
    top = rows.abs().amax(1, keepdim=True).clamp_min(1e-10)
    best, least = top, torch.full_like(top, torch.inf)
    for share in torch.arange(1, _COARSE + 1) / _COARSE:
        best, least = _better(rows, highest, top * share, best, least)
    middle, step = best, top / _COARSE / (_FINE + 1)
    for offset in range(-_FINE, _FINE + 1):
        best, least = _better(rows, highest, middle + offset * step, best, least)
    return best


def _better(
    rows: Tensor, highest: int | Tensor, end: Tensor, best: Tensor, least: Tensor
) -> tuple[Tensor, Tensor]:
    """Ends and their square errors: those so far, or where it errs less, `end`."""
    scale, ends = end / highest, torch.as_tensor(highest, dtype=rows.dtype)
    error = (rows - (rows / scale).round_().clamp_(-ends, ends).mul_(scale)).square_()
    errors = error.sum(1, keepdim=True)
    return torch.where(errors < least, end, best), torch.minimum(errors, least)


class LeastError(nn.Module):
    """What brevitas asks of a statistic: the end of the range, for each row or for all values."""

    def __init__(
        self,
        bit_width: int | tuple[int, ...],
        stats_reduce_dim: int | None,
        keepdim: bool = False,
    ) -> None:
        super().__init__()
        bits = torch.tensor(bit_width, dtype=torch.float)
        self.highest = (2 ** (bits - 1) - 1).reshape(-1, 1)
        self.each, self.keepdim = stats_reduce_dim is not None, keepdim

    @torch.no_grad()
    def forward(self, weight: Tensor) -> Tensor:
        """Outputs x any, or values of any shape."""
        highest = self.highest.to(weight.device)
        if not self.each:
            return least_error(weight.reshape(1, -1), highest).reshape(())
        found = least_error(weight, highest)
        return found if self.keepdim else found.squeeze(1)


class ChannelBits(nn.Module):
    """What brevitas asks of a bit width: that of each output, ready to broadcast."""

    def __init__(
        self, bit_width: tuple[int, ...], scaling_per_output_channel_shape: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.bits: Tensor
        bits = torch.tensor(bit_width, dtype=torch.float)
        self.register_buffer("bits", bits.reshape(scaling_per_output_channel_shape), False)

    def forward(self) -> Tensor:
        """Of length one along every axis of the weight but that of its outputs."""
        return self.bits


class Binary(nn.Module):
    """sign(w) (Courbariaux et al. 2016, BinaryNet, eq. 1), the sign of zero being +1.

    `scaled`: times the mean magnitude (Rastegari et al. 2016, XNOR-Net, eq. 6). Unscaled, weights
    beyond +-1 are not moved any further (BinaryNet, eq. 4).
    """

    def __init__(self, scaled: bool, each_output: bool, output_channel_dim: int) -> None:
        super().__init__()
        self.scaled = scaled
        self.axis = output_channel_dim if each_output else None

    def forward(self, weight: Tensor) -> Quantised:
        """Any shape in, the same out."""
        if self.scaled:
            scale, through = _mean(weight.abs(), self.axis), weight
        else:
            scale, through = torch.ones(()), weight.clamp(-1, 1)
        sign = torch.where(weight >= 0, 1.0, -1.0)
        return _straight(through, sign * scale), scale, torch.zeros(()), torch.tensor(1.0)


class Ternary(nn.Module):
    """-a, 0 or a: 0 up to 0.7 of the mean magnitude, a the mean of the magnitudes above it.

    Li et al. 2016, Ternary Weight Networks, eq. 5 and 6.
    """

    def __init__(self, each_output: bool, output_channel_dim: int) -> None:
        super().__init__()
        self.axis = output_channel_dim if each_output else None

    def forward(self, weight: Tensor) -> Quantised:
        """Any shape in, the same out."""
        size = weight.abs()
        above = (size > _THRESHOLD * _mean(size, self.axis)).to(weight.dtype)
        count = _mean(above, self.axis).clamp_min(1 / weight.numel())
        scale = _mean(size * above, self.axis) / count
        value = _straight(weight, weight.sign() * above * scale)
        return value, scale, torch.zeros(()), torch.tensor(2.0)


class DoReFa(nn.Module):
    """2 q(tanh(w) / (2 max|tanh(w)|) + 1/2) - 1 with q(x) = round((2^k - 1) x) / (2^k - 1).

    Zhou et al. 2016, eq. 9, for k bits. The levels are the odd integers of k + 1 signed bits times
    1 / (2^k - 1), which is what is told of the bit width.

    `each_output`: times a factor for every output, which errs least for the first weight that it
    sees and stays then. The paper's networks have BatchNorm behind every layer; folded, it is this.
    """

    def __init__(self, bit_width: int, each_output: bool, output_channel_dim: int) -> None:
        super().__init__()
        self.bits, self.axis = bit_width, output_channel_dim if each_output else None
        self.scale: Tensor | None
        self.register_buffer("scale", None)

    def forward(self, weight: Tensor) -> Quantised:
        """Any shape in, the same out: from -1 to 1, times the factors."""
        steps = 2**self.bits - 1
        squashed = weight.tanh()
        unit = squashed / (2 * squashed.abs().max().clamp_min(1e-10)) + 0.5
        value = 2 * _straight(unit, (unit * steps).round() / steps) - 1
        factor = torch.tensor(1.0) if self.axis is None else self._factor(weight, value)
        return value * factor, factor / steps, torch.zeros(()), torch.tensor(self.bits + 1.0)

    @torch.no_grad()
    def _factor(self, weight: Tensor, value: Tensor) -> Tensor:
        if self.scale is None:
            products, squares = (_mean(value * v, self.axis) for v in (weight, value))
            self.scale = products / squares
        return self.scale

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        """Brevitas makes a new quantiser whenever a state is loaded."""
        if f"{prefix}scale" in state_dict:
            self.scale = torch.empty_like(state_dict[f"{prefix}scale"])
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _straight(through: Tensor, value: Tensor) -> Tensor:
    """`value`, whose gradient with respect to `through` is 1."""
    return through + (value - through).detach()


def _mean(values: Tensor, axis: int | None) -> Tensor:
    """Over everything but `axis`, ready to broadcast."""
    if axis is None:
        return values.mean()
    others = [i for i in range(values.ndim) if i != axis % values.ndim]
    return values.mean(others, keepdim=True)
