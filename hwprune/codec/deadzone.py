"""Quantisation on two grids, decided by rate and by what it does to the output.

Trellis-coded quantisation with entropy coding: two grids of one step, of which a state says which
one a weight is on (`hwprune.codec.decoder.trellis`), and the path through them that costs least in
error^2 + price * bits (`hwprune.codec.viterbi`). At 3 bits of a Laplacian it is 0.7 dB from the
bound of rate and distortion, whole steps of one grid are 1.6 from it. The price pulls weights
towards zero, little where weights are large anyway and much where they are rare: a dead zone. Where
the second moments of the inputs are known, columns are quantised one after another, so that later
ones make up for the errors of earlier ones (GPTQ); the outputs' weights of one column, whose errors
add up, are a path.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hwprune.codec.classes import loudness
from hwprune.codec.coded import Coded
from hwprune.codec.decoder.forms import points
from hwprune.codec.products import from_matrix, groups, matrix, outputs_axis
from hwprune.codec.trellis import Chained
from hwprune.codec.viterbi import Elements, best_paths
from hwprune.codec.weights import Values, Weight
from hwprune.quantize.gptq import Inverse, gptq_by_column

Numbers = NDArray[np.int32]
Shifts = tuple[float, float]
_PRICE = 0.075  # of a bit, in steps^2: about dD/dR
_OUTPUT_PRICE = 0.01  # less: weights that are all too small add up from layer to layer
_MOST = 1 << 14  # steps that a weight may have
_RUN, _COLUMN_RUN = 1024, 128  # elements of a path; of one within a column, about
_EXACT = ((0.0, 0.0), (0.5, 0.5))  # steps by which the grids' points are smaller than numbers


@dataclass(frozen=True, slots=True)
class Quantized:
    """A weight in whole numbers of steps, and what a decoder makes of it.

    `numbers` are 2 k + grid; `line` and `run` say how they are chained once `axis` comes last.
    """

    weight: Weight
    numbers: Numbers
    step: float
    shifts: tuple[Shifts, Shifts]
    axis: int
    line: int
    run: int

    @property
    def values(self) -> Values:
        """Real, as decoded."""
        return points(self.numbers, self.step, self.shifts)

    @property
    def coded(self) -> Coded:
        """For the file."""
        entry = self.weight.entry("trellis")
        entry |= {"step": self.step, "shifts": list(self.shifts), "axis": self.axis}
        ordered = np.ascontiguousarray(np.moveaxis(self.numbers, self.axis, -1))
        return Coded(entry, chained=(Chained(ordered, self.line, self.run),))


def quantize(weight: Weight, step: float, known: Inverse | None = None) -> Quantized:
    """A weight in steps; no smaller ones than its numbers have room for.

    Args:
        weight: With real values, rows x columns x places.
        step: The distance of a grid's points.
        known: Of the second moment of what it multiplies; None: errors in all weights count alike.
    """
    step = float(np.float32(max(step, float(np.abs(weight.values).max()) / _MOST, 1e-30)))
    axis, steps = outputs_axis(weight), weight.values / np.float32(step)
    if known is None:
        numbers = _one_path(steps, axis)
        shifts = _shifts(steps, numbers, step)
        return Quantized(weight, numbers, step, shifts, axis, numbers.size, _run(numbers.size))
    line = weight.values.shape[axis]
    run = -(-line // max(1, round(line / _COLUMN_RUN)))
    numbers = _for_output(weight, steps, known, run)
    return Quantized(weight, numbers, step, ((0.0, 0.0), (step / 2, step / 2)), axis, line, run)


def _run(elements: int) -> int:
    """Of a path through all weights."""
    return min(_RUN, elements)


def _sizes(steps: Values) -> Values:
    """How large weights are expected to be, by their neighbours on each axis."""
    rows, columns, places = (np.exp2(axis).astype(np.float32) for axis in loudness(steps).axes)
    return rows[:, None, None] * columns[:, None] * places


def _one_path(steps: Values, axis: int) -> Numbers:
    """Weights one behind the other, those of all outputs first."""
    ordered = np.moveaxis(steps, axis, -1)
    sizes = np.moveaxis(_sizes(steps), axis, -1)
    alike = np.broadcast_to(np.float32(1), (1, steps.size))
    given = Elements(ordered.reshape(1, -1), sizes.reshape(1, -1), alike)
    found = best_paths(given, _PRICE, _run(steps.size))
    return np.moveaxis(found.reshape(ordered.shape), -1, axis)


def _shifts(steps: Values, numbers: Numbers, step: float) -> tuple[Shifts, Shifts]:
    """Per grid, by how much weights of one step, and of more, are smaller than they say."""
    magnitudes, grids = np.abs(numbers >> 1), numbers & 1
    short = magnitudes - np.abs(steps)

    def mean(where: NDArray[np.bool_]) -> float:
        return float(np.float32(short[where].mean() * step)) if where.any() else 0.0

    first, second = (
        (mean((magnitudes == 1) & (grids == grid)), mean((magnitudes > 1) & (grids == grid)))
        for grid in (0, 1)
    )
    return first, second


def _for_output(weight: Weight, steps: Values, known: Inverse, run: int) -> Numbers:
    """Columns one after another; a bit is worth the more, the less an error in a column costs."""
    whole, sizes = matrix(weight, steps), matrix(weight, _sizes(steps))
    found, outputs = np.empty(whole.shape, np.int32), whole.shape[1]
    apart = groups(weight)
    mean = torch.exp(known.spreads.log().mean()).item()  # a step is meant for an error of this cost

    def line(column: NDArray[Any]) -> NDArray[Any]:
        """All outputs that there are for it, where several columns are side by side."""
        return column.reshape(apart, -1, outputs).swapaxes(0, 1).reshape(-1, apart * outputs)

    def rounding(values: torch.Tensor, column: int, own: torch.Tensor) -> torch.Tensor:
        weights = ((mean / own) ** 2).expand_as(values)
        near = values[:, :, 0].clamp(-2 * _MOST, 2 * _MOST)
        given = (near.numpy(), sizes[:, :, column], weights[:, :, 0].numpy())
        paths = best_paths(Elements(*(line(one) for one in given)), _OUTPUT_PRICE, run)
        numbers = paths.reshape(-1, apart, outputs).swapaxes(0, 1).reshape(-1, outputs, 1)
        found[:, :, column : column + 1] = numbers
        return torch.from_numpy(points(numbers, 1.0, _EXACT))

    gptq_by_column(torch.from_numpy(whole), known, rounding)
    return from_matrix(weight, found)
