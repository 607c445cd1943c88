"""Weights rounded for the outputs that they lead to: columns one after another, by GPTQ.

Later columns make up for the errors of earlier ones. The outputs' weights of one column, whose
errors add up, are a path through the trellis. A path is a sequence of small steps, so that several
weights are walked side by side.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hwprune.codec.classes import loudness
from hwprune.codec.decoder.ans import Integers
from hwprune.codec.decoder.forms import points
from hwprune.codec.decoder.prediction import ONE
from hwprune.codec.prediction import predictor, rest
from hwprune.codec.products import from_matrix, groups, matrix, outputs_axis
from hwprune.codec.viterbi import Elements, Numbers, Values, best_paths
from hwprune.codec.weights import Weight
from hwprune.quantize.gptq import Column, Inverse, by_column

MOST_STEPS = 1 << 14  # that a weight may have
_PRICE = 0.005  # of a bit, in steps^2: weights that are all too small add up from layer to layer
_ERROR = 0.05  # mean square of an error, in steps^2
_RUN = 128  # elements of a path, about
_EXACT = ((0.0, 0.0), (0.5, 0.5))  # steps by which the grids' points are smaller than numbers


@dataclass(frozen=True)
class Product:
    """A weight of a product, its step, and what is known of its inputs: columns that read the same
    one are in their order, one behind the other (`hwprune.codec.products.places`).
    """

    weight: Weight
    step: float
    known: Inverse

    @cached_property
    def foretold(self) -> Integers | None:
        """What places of a kernel take from those before them."""
        if self.weight.reader.op_type != "Conv":
            return None
        return predictor(self.weight.values, _ERROR * self.step**2)

    @property
    def line(self) -> int:
        """Outputs of a column."""
        return int(self.weight.values.shape[outputs_axis(self.weight)])

    @property
    def run(self) -> int:
        """Outputs after which a path begins anew."""
        return -(-self.line // max(1, round(self.line / _RUN)))


def for_outputs(products: Sequence[Product]) -> Iterator[Numbers]:
    """Each weight as 2 k + grid, rows x columns x places."""
    walks = [_Walk(product) for product in products]
    walking = walks
    while walking:
        given, runs = [walk.elements() for walk in walking], [walk.product.run for walk in walking]
        paths = best_paths(given, _PRICE, runs)
        walking = [w for w, own in zip(walking, paths, strict=True) if w.goes_on(own)]
    for walk in walks:
        yield from_matrix(walk.product.weight, walk.found)


def expected_sizes(steps: Values) -> Values:
    """How large weights are, by their neighbours on each axis."""
    rows, columns, places = (np.exp2(axis).astype(np.float32) for axis in loudness(steps).axes)
    return rows[:, None, None] * columns[:, None] * places


class _Walk:
    """A weight on its way; `found` is 2 k + grid, groups x outputs x columns."""

    def __init__(self, product: Product) -> None:
        self.product, weight, known = product, product.weight, product.known
        steps, self._foretold = weight.values / np.float32(product.step), product.foretold
        left = steps if self._foretold is None else rest(steps, self._foretold)
        whole, self._sizes = matrix(weight, steps), matrix(weight, expected_sizes(left))
        if self._foretold is not None:
            _check_order(known, len(self._foretold))
            self._points = np.zeros(whole.shape, np.float32)  # what a decoder will have
        self.found: NDArray[np.int32] = np.empty(whole.shape, np.int32)
        self._outputs, self._apart = whole.shape[1], groups(weight)
        self._mean = known.spreads.log().mean().exp().item()  # a step is for errors of this cost
        self._columns = by_column(torch.from_numpy(whole), known)
        self._turn_to(next(self._columns))

    def elements(self) -> Elements:
        """Of the next column; a bit is worth the more, the less an error in it costs."""
        column = self._next
        near = (column.values - self._known).clamp(-2 * MOST_STEPS, 2 * MOST_STEPS)
        weights = ((self._mean / column.spread) ** 2).expand_as(near)
        sizes = self._sizes[:, :, column.index]
        return Elements(*map(self._line, (near.numpy(), sizes, weights.numpy())))

    def goes_on(self, paths: Numbers) -> bool:
        """Takes the paths of the column; whether there is another one."""
        apart = paths.reshape(-1, self._apart, self._outputs).swapaxes(0, 1)
        numbers = apart.reshape(-1, self._outputs, 1)
        column = self._next.index
        self.found[:, :, column : column + 1] = numbers
        found = torch.from_numpy(points(numbers, 1.0, _EXACT)) + self._known
        if self._foretold is not None:
            self._points[:, :, column : column + 1] = found.numpy()
        try:
            self._turn_to(self._columns.send(found))
        except StopIteration:
            return False
        return True

    def _turn_to(self, column: Column) -> None:
        """The next one, and what is foretold of it."""
        self._next, self._known = column, self._taken(column.index)

    def _taken(self, column: int) -> torch.Tensor:
        """What is foretold of a column by the places before it."""
        found = torch.zeros(*self.found.shape[:2], 1)
        if self._foretold is not None:
            place = column % len(self._foretold)
            before = torch.from_numpy(self._points[:, :, column - place : column])
            taken = torch.from_numpy(self._foretold[place, :place] / ONE).float()
            found[:, :, 0] = before @ taken
        return found

    def _line(self, column: NDArray[Any]) -> NDArray[Any]:
        """All outputs that there are for it, where several columns are side by side."""
        apart = column.reshape(self._apart, -1, self._outputs).swapaxes(0, 1)
        return apart.reshape(-1, self._apart * self._outputs)


def _check_order(known: Inverse, places: int) -> None:
    """Raises ValueError where a place would be rounded before one that foretells it."""
    order = known.order.reshape(-1, places)
    if torch.any(order[:, 1:] != order[:, :-1] + 1) or torch.any(order[:, 0] % places):
        raise ValueError(f"columns are not in the order of their kernels' {places} places")
