"""Uniform quantisation with a dead zone, decided by rate and by what it does to the output.

A weight costs bits in proportion to its magnitude: with a two-sided geometric distribution of mean
magnitude m, one step more costs -log2(rho) bits, rho = (sqrt(1 + m^2) - 1) / m. Minimising
error^2 / spread^2 + price * bits over the integers therefore means rounding after a pull towards
zero, small where weights are large anyway and large where they are rare (Sullivan 1996: the
entropy-constrained scalar quantiser of a Laplacian is uniform with such a dead zone). Where the
second moments of the inputs are known, columns are rounded one after another, so that later ones
make up for the errors of earlier ones (GPTQ), by the same rule.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from hwprune.codec.arrays import Symbols
from hwprune.codec.classes import loudness
from hwprune.codec.coded import Coded
from hwprune.codec.decoder.forms import points
from hwprune.codec.products import from_matrix, matrix
from hwprune.codec.weights import Values, Weight
from hwprune.quantize.gptq import Inverse, gptq_by_column

Numbers = NDArray[np.int16]
_PRICE = np.log(2) / 6  # of a bit, in steps^2: dD/dR of D = step^2 / 12 at high rate
_MOST = 1 << 14  # steps that a weight may have


@dataclass(frozen=True, slots=True)
class Quantized:
    """A weight in whole numbers of steps, and what a decoder makes of it."""

    weight: Weight
    numbers: Numbers
    step: float
    shifts: tuple[float, float]

    @property
    def values(self) -> Values:
        """Real, as decoded."""
        return points(self.numbers, self.step, self.shifts)

    @property
    def coded(self) -> Coded:
        """For the file."""
        entry = self.weight.entry("steps") | {"step": self.step, "shifts": list(self.shifts)}
        return Coded(entry, (Symbols(self.numbers, "steps"),))


def quantize(weight: Weight, step: float, known: Inverse | None = None) -> Quantized:
    """A weight in steps; no smaller ones than its numbers have room for.

    Args:
        weight: With real values, rows x columns x places.
        step: Their distance.
        known: Of the second moment of what it multiplies; None: errors in all weights count alike.
    """
    step = float(np.float32(max(step, float(np.abs(weight.values).max()) / _MOST, 1e-30)))
    bits = _bits(weight.values, step)
    if known is None:
        numbers = _pulled(weight.values, step, _PRICE / 2 * bits)
        return Quantized(weight, numbers, step, _shifts(weight.values, numbers, step))
    return Quantized(weight, _for_output(weight, step, bits, known), step, (0.0, 0.0))


def _bits(values: Values, step: float) -> Values:
    """What one step more costs, in bits, by how large neighbours in row and column are."""
    nearest = np.rint(values / np.float32(step))
    rows, columns, places = loudness(nearest).axes
    log_mean = rows[:, None, None] + columns[None, :, None] + places[None, None, :]
    mean = np.exp2(np.maximum(log_mean, -8)).astype(np.float32)
    found: Values = -np.log2((np.sqrt(1 + mean * mean) - 1) / mean)
    return found


def _pulled(values: Values, step: float, pull: Values | float) -> Numbers:
    """The nearest numbers of steps after a pull towards zero, in steps."""
    away = np.abs(values) / np.float32(step) - pull
    found = np.rint(np.maximum(away, 0)).astype(np.int16)
    return np.where(values < 0, -found, found)


def _shifts(values: Values, numbers: Numbers, step: float) -> tuple[float, float]:
    """By how much weights of one step, and of more, are smaller in the mean than they say."""
    magnitudes = np.abs(numbers)
    short = magnitudes * np.float32(step) - np.abs(values)
    found = [short[where] for where in (magnitudes == 1, magnitudes > 1)]
    first, others = (float(np.float32(s.mean())) if s.size else 0.0 for s in found)
    return first, others


def _for_output(weight: Weight, step: float, bits: Values, known: Inverse) -> Numbers:
    """Columns one after another; the pull is the larger, the less an error in a column costs."""
    whole, prices = matrix(weight, weight.values), matrix(weight, bits)
    mean = torch.exp(known.spreads.log().mean()).item()  # a step is meant for an error of this cost
    pulls = torch.from_numpy(prices) * (_PRICE / 2)

    def rounding(values: torch.Tensor, column: int, own: torch.Tensor) -> torch.Tensor:
        pull = pulls[:, :, column : column + 1] * (own / mean) ** 2
        away = (values.abs() / step - pull).clamp_(min=0).round_().clamp_(max=2 * _MOST)
        return torch.copysign(away, values) * step

    found = gptq_by_column(torch.from_numpy(whole.copy()), known, rounding)
    steps: Values = np.rint(found.numpy() / np.float32(step))
    return from_matrix(weight, steps).astype(np.int16)
