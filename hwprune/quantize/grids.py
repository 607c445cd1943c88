"""The values that a weight may take, as a function that rounds to them."""

from collections.abc import Callable

from torch import Tensor, where

from hwprune.quantize.encodings import levels_of
from hwprune.quantize.formulas import least_error

Grid = Callable[[Tensor], Tensor]  # groups x outputs x any to the nearest values of the quantiser


def grid(scale: Tensor, bits: int | Tensor) -> Grid:
    """The multiples of `scale` that so many signed bits have; both broadcast against the weight."""
    if isinstance(bits, int) and bits == 1:
        return lambda values: where(values >= 0, scale, -scale)
    highest = 2 ** (bits - 1) - 1
    return lambda values: (values / scale).round_().clamp_(-highest, highest).mul_(scale)


def few_bits_scale(rows: Tensor, bits: int) -> Tensor:
    """Of each row, rows x 1: the mean magnitude for a sign (XNOR-Net), else what errs least."""
    if bits == 1:
        return rows.abs().mean(1, keepdim=True)
    highest = int(levels_of(bits)[-1])
    return least_error(rows, highest) / highest


def few_bits_grid(weight: Tensor, bits: int, per_channel: bool) -> Grid:
    """The grid of the kind that weights of so few bits have (`kinds.kind_of`).

    Args:
        weight: Groups x outputs x columns.
        bits: 1 to 6.
        per_channel: Whether every output has a scale of its own.
    """
    groups, outputs, _ = weight.shape
    scale = few_bits_scale(weight.flatten(0, 1) if per_channel else weight.reshape(1, -1), bits)
    return grid(scale.reshape(groups, outputs, 1) if per_channel else scale, bits)
