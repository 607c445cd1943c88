"""Quantisation on two grids, decided by rate and by what it does to the output.

Trellis-coded quantisation with entropy coding: two grids of one step, of which a state says which
one a weight is on (`hwprune.codec.decoder.trellis`), and the path through them that costs least in
error^2 + price * bits (`hwprune.codec.viterbi`). At 3 bits of a Laplacian it is 0.7 dB from the
bound of rate and distortion, whole steps of one grid are 1.6 from it. The price pulls weights
towards zero, little where weights are large anyway and much where they are rare: a dead zone. Where
the second moments of the inputs are known, weights are rounded for the outputs
(`hwprune.codec.outputs`).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwprune.codec.coded import Coded
from hwprune.codec.decoder.ans import Integers
from hwprune.codec.decoder.forms import points
from hwprune.codec.decoder.prediction import restored
from hwprune.codec.outputs import MOST_STEPS, Product, expected_sizes, for_outputs
from hwprune.codec.portions import portions
from hwprune.codec.prediction import written
from hwprune.codec.products import outputs_axis
from hwprune.codec.trellis import Chained
from hwprune.codec.viterbi import Elements, Numbers, best_paths
from hwprune.codec.weights import Values, Weight
from hwprune.quantize.gptq import Inverse

Shifts = tuple[float, float]
_PRICE = 0.075  # of a bit, in steps^2: about dD/dR
_RARE_PRICE = 0.17  # in steps x mean magnitude, where that is less: few weights are not zero then
_RUN = 1024  # elements of a path
_PORTION = 1 << 22  # elements that are rounded side by side


@dataclass(frozen=True, slots=True)
class Quantized:
    """A weight in whole numbers of steps, and what a decoder makes of it.

    `numbers` are 2 k + grid; `line` and `run` say how they are chained once `axis` comes last.
    Where places of a kernel are `foretold`, they are of what is left.
    """

    weight: Weight
    numbers: Numbers
    step: float
    shifts: tuple[Shifts, Shifts]
    axis: int
    line: int
    run: int
    foretold: Integers | None = None

    @property
    def values(self) -> Values:
        """Real, as decoded."""
        found = points(self.numbers, self.step, self.shifts)
        return found if self.foretold is None else restored(found, self.foretold)

    @property
    def coded(self) -> Coded:
        """For the file."""
        entry = self.weight.entry("trellis")
        entry |= {"step": self.step, "shifts": list(self.shifts), "axis": self.axis}
        if self.foretold is not None:
            entry["foretold"] = written(self.foretold)
        ordered = np.ascontiguousarray(np.moveaxis(self.numbers, self.axis, -1))
        chained = Chained(ordered, self.line, self.run)
        return Coded(entry, chained=(chained,), data=self.weight.stored(self.values).tobytes())


def quantize(
    found: Iterable[Weight], steps: Mapping[int, float], known: Mapping[int, Inverse]
) -> Iterator[Quantized]:
    """Weights in steps, in their order; no smaller steps than their numbers have room for.

    Args:
        found: With real values, rows x columns x places.
        steps: The distance of a grid's points, by the index of a weight.
        known: Of the second moments of what weights multiply; where nothing is known, errors in all
            elements of a weight count alike.
    """

    def walked(weight: Weight) -> int:
        return weight.values.size if weight.index in known else 0

    for portion in portions(found, walked, _PORTION):
        exact = {weight.index: _representable(weight, steps[weight.index]) for weight in portion}
        multiplied = [w for w in portion if w.index in known]
        products = [Product(w, exact[w.index], known[w.index]) for w in multiplied]
        pairs = zip(products, for_outputs(products), strict=True)
        for weight in portion:
            if weight.index in known:
                yield _product(*next(pairs))
            else:
                yield _one_path(weight, exact[weight.index])


def _representable(weight: Weight, step: float) -> float:
    """The step, or the least that a weight's numbers have room for, in single precision."""
    least = max(float(np.abs(weight.values).max()) / MOST_STEPS, 1e-30)
    return float(np.float32(max(step, least)))


def _product(product: Product, numbers: Numbers) -> Quantized:
    weight, step = product.weight, product.step
    exact: tuple[Shifts, Shifts] = ((0.0, 0.0), (step / 2, step / 2))
    axis = outputs_axis(weight)
    line, run = product.line, product.run
    return Quantized(weight, numbers, step, exact, axis, line, run, product.foretold)


def _one_path(weight: Weight, step: float) -> Quantized:
    """Elements one behind the other, those of all outputs first."""
    axis, steps = outputs_axis(weight), weight.values / np.float32(step)
    ordered, run = np.moveaxis(steps, axis, -1), min(_RUN, steps.size)
    sizes = np.moveaxis(expected_sizes(steps), axis, -1)
    alike = np.broadcast_to(np.float32(1), (1, steps.size))
    given = Elements(ordered.reshape(1, -1), sizes.reshape(1, -1), alike)
    price = min(_PRICE, _RARE_PRICE * float(np.abs(steps).mean()))
    [found] = best_paths([given], price, [run])
    numbers = np.moveaxis(found.reshape(ordered.shape), -1, axis)
    shifts = _shifts(steps, numbers, step)
    return Quantized(weight, numbers, step, shifts, axis, numbers.size, run)


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
