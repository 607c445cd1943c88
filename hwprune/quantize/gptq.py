"""GPTQ: weights rounded one column after another, the later ones making up for the earlier.

Frantar et al. 2022 (GPTQ, section 3) minimises |(W - Q) X|^2, whose Hessian is H = 2 X X', over the
grid of a quantiser whose scales are fixed.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hwprune.quantize.grids import Grid

# Rounds one column of all outputs (groups x outputs x 1), given its index and, for each group, how
# much an error in it costs once the columns behind have made up for what they can: 1 / its square.
Rounding = Callable[[Tensor, int, Tensor], Tensor]
_DAMPING = 0.01  # of the mean diagonal of H, added to it
_BLOCK = 64  # columns; what they leave to those behind the block is carried over at its end


@dataclass(frozen=True, slots=True)
class Inverse:
    """What rounding needs of a second moment: its columns by falling power, and U of H^-1 = U' U.

    Attributes:
        order: Of the columns.
        factor: U, groups x columns x columns, for columns in that order.
    """

    order: Tensor
    factor: Tensor

    @property
    def spreads(self) -> Tensor:
        """What a `Rounding` is told of each column, groups x columns, in their own order."""
        found = torch.empty_like(self.factor[:, 0])
        found[:, self.order] = self.factor.diagonal(dim1=1, dim2=2)
        return found


def inverse(moment: Tensor) -> Inverse:
    """Of X X' up to a factor, groups x columns x columns."""
    order = moment.diagonal(dim1=1, dim2=2).sum(0).argsort(descending=True, stable=True)
    factor = _inverse_factor(moment[:, order][:, :, order].double())
    return Inverse(order, factor.to(moment.dtype))


def gptq(weight: Tensor, moment: Tensor, grid: Grid) -> Tensor:
    """Weights on the grid whose products with the inputs are near to those of `weight`.

    Args:
        weight: W, groups x outputs x columns.
        moment: X X' up to a factor, groups x columns x columns.
        grid: Rounds one column of all outputs.

    Returns:
        Q, of the shape of `weight`. The columns of most power were rounded first.
    """
    return gptq_by_column(weight, inverse(moment), lambda values, _index, _spread: grid(values))


def gptq_by_column(weight: Tensor, known: Inverse, rounding: Rounding) -> Tensor:
    """As `gptq`, by a rounding that depends on the column."""
    order, factor = known.order, known.factor.to(weight.dtype)
    rest, found = weight[:, :, order].clone(), torch.empty_like(weight)
    for start in range(0, weight.shape[2], _BLOCK):
        block = slice(start, start + _BLOCK)
        columns = order[block].tolist()
        rounded, errors = _round_block(
            rest[:, :, block].clone(), factor[:, block, block], columns, rounding
        )
        found[:, :, order[block]] = rounded
        rest[:, :, start + _BLOCK :] -= errors @ factor[:, block, start + _BLOCK :]
    return found


def _round_block(
    rest: Tensor, factor: Tensor, columns: list[int], rounding: Rounding
) -> tuple[Tensor, Tensor]:
    """The rounded columns, and their errors over the diagonal of the factor."""
    rounded, errors = torch.empty_like(rest), torch.empty_like(rest)
    for i, column in enumerate(columns):
        here = slice(i, i + 1)
        rounded[:, :, here] = rounding(rest[:, :, here], column, factor[:, here, here])
        errors[:, :, here] = (rest[:, :, here] - rounded[:, :, here]) / factor[:, here, here]
        rest[:, :, i:] -= errors[:, :, here] * factor[:, here, i:]
    return rounded, errors


def _inverse_factor(moment: Tensor) -> Tensor:
    """U of H^-1 = U' U, upper triangular."""
    diagonal = moment.diagonal(dim1=1, dim2=2)
    mean = diagonal.mean(1, keepdim=True)
    diagonal += torch.where(mean > 0, _DAMPING * mean, 1.0)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(moment))
    upper: Tensor = torch.linalg.cholesky(inverse, upper=True)
    return upper
