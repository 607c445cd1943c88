"""GPTQ: weights rounded one column after another, the later ones making up for the earlier.

Frantar et al. 2022 (GPTQ, section 3) minimises |(W - Q) X|^2, whose Hessian is H = 2 X X', over the
grid of a quantiser whose scales are fixed.
"""

from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from hwprune.quantize.grids import Grid

_DAMPING = 0.01  # of the mean diagonal of H, added to it
_BLOCK = 64  # columns; what they leave to those behind the block is carried over at its end


@dataclass(frozen=True, slots=True)
class Column:
    """A column that is to be rounded next.

    `values` are those of all outputs, groups x outputs x 1; `spread`, groups x 1 x 1, says how much
    an error in it costs once the columns behind have made up for what they can: 1 / its square.
    """

    values: Tensor
    index: int
    spread: Tensor


Columns = Generator[Column, Tensor, Tensor]  # each is answered by its rounded values; returns Q


@dataclass(frozen=True, slots=True)
class Inverse:
    """What rounding needs of a second moment H: its columns by falling power, and U of H^-1 = U' U.

    Attributes:
        order: Of the columns.
        rows: Those of U, each over its diagonal element: groups x columns x columns, in that order.
        spreads: The diagonal, groups x columns, in that order.
    """

    order: Tensor
    rows: Tensor
    spreads: Tensor

    def half(self) -> "Inverse":
        """With rows of half precision, which is enough for what later columns make up for."""
        return Inverse(self.order, self.rows.half(), self.spreads)


def inverse(moment: Tensor, together: int = 1) -> Inverse:
    """Of X X' up to a factor, groups x columns x columns; so many columns keep their order."""
    power = moment.diagonal(dim1=1, dim2=2).sum(0).reshape(-1, together)
    first = power.sum(1).argsort(descending=True, stable=True)
    order = (first[:, None] * together + torch.arange(together)).flatten()
    factor = _inverse_factor(moment[:, order][:, :, order].double())
    spreads = factor.diagonal(dim1=1, dim2=2).clone()
    factor /= spreads[:, :, None]
    return Inverse(order, factor.to(moment.dtype), spreads.to(moment.dtype))


def gptq(weight: Tensor, known: Inverse, grid: Grid) -> Tensor:
    """Weights on the grid whose products with the inputs are near to those of `weight`.

    Args:
        weight: W, groups x outputs x columns.
        known: Of X X'.
        grid: Rounds one column of all outputs.

    Returns:
        Q, of the shape of `weight`. The columns of most power were rounded first.
    """
    asked = by_column(weight, known)
    try:
        column = next(asked)
        while True:
            column = asked.send(grid(column.values))
    except StopIteration as done:
        found: Tensor = done.value
        return found


def by_column(weight: Tensor, known: Inverse) -> Columns:
    """As `gptq`, by any rounding: every column is asked for, so that several weights, or other
    things that are known of a column, can be looked at side by side.
    """
    order = known.order
    rest, found = weight[:, :, order].clone(), torch.empty_like(weight)
    for start in range(0, weight.shape[2], _BLOCK):
        block = slice(start, start + _BLOCK)
        rows = known.rows[:, block, start:].to(weight.dtype)
        rounded, errors = yield from _block(
            rest[:, :, block].clone(), rows, known.spreads[:, block], order[block].tolist()
        )
        found[:, :, order[block]] = rounded
        rest[:, :, start + _BLOCK :] -= errors @ rows[:, :, _BLOCK:]
    return found


def _block(
    rest: Tensor, rows: Tensor, spreads: Tensor, columns: list[int]
) -> Generator[Column, Tensor, tuple[Tensor, Tensor]]:
    """The rounded columns, and their errors."""
    rounded, errors = torch.empty_like(rest), torch.empty_like(rest)
    for i, column in enumerate(columns):
        here = slice(i, i + 1)
        rounded[:, :, here] = yield Column(rest[:, :, here], column, spreads[:, here, None])
        errors[:, :, here] = rest[:, :, here] - rounded[:, :, here]
        rest[:, :, i:] -= errors[:, :, here] * rows[:, here, i : len(columns)]
    return rounded, errors


def _inverse_factor(moment: Tensor) -> Tensor:
    """U of H^-1 = U' U, upper triangular."""
    diagonal = moment.diagonal(dim1=1, dim2=2)
    mean = diagonal.mean(1, keepdim=True)
    diagonal += torch.where(mean > 0, _DAMPING * mean, 1.0)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(moment))
    upper: Tensor = torch.linalg.cholesky(inverse, upper=True)
    return upper
