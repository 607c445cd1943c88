"""Classes of an array's rows, columns and places: how loud each of them is.

The size of an element is taken for a product of three factors, one for each axis (weights of a
convolution: loud outputs, loud inputs, a loud middle of the kernel). Their logarithms, rounded, are
the classes, and the sum of three classes is the logarithm of what an element is expected to be.
"""

from collections import Counter
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwprune.codec.decoder.arrays import Layout
from hwprune.codec.decoder.tables import TOP

Factors = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
_ROUNDS = 6
_PRIOR = 12.0  # so many elements of mean size stand beside those of an index
_LEAST = 0.02  # of the mean size: what an index without any size is taken for


@dataclass(frozen=True, slots=True)
class Loudness:
    """log2 of the size that elements of each index are expected to have: the sum over the axes."""

    axes: Factors

    def rounded(self, steps: float) -> list[NDArray[np.int64]]:
        """Per axis in 1 / `steps` of an octave."""
        return [np.rint(steps * axis).astype(np.int64) for axis in self.axes]

    def sums(self, steps: float) -> list[tuple[int, int]]:
        """Which sums of three classes there are, and how many elements have them."""
        found: Counter[int] = Counter()
        counts = [Counter(axis.tolist()) for axis in self.rounded(steps)]
        for rows, columns, places in product(*(c.items() for c in counts)):
            total = rows[0] + columns[0] + places[0]
            found[total] += rows[1] * columns[1] * places[1]
        return list(found.items())

    def layout(self, steps: float, first: int, low: int, high: int) -> Layout:
        """Tables from `first` on for sums of `low` to `high`; those outside share the ends'."""
        axes = self.rounded(steps)
        least = [int(axis.min()) for axis in axes]
        rows, columns, places = (
            np.minimum(axis - start, TOP) for axis, start in zip(axes, least, strict=True)
        )
        return Layout((rows, columns, places), first, high - low + 1, low - sum(least))


def loudness(array: NDArray[Any]) -> Loudness:
    """Of an array rows x columns x places, by alternating means."""
    sizes = np.abs(array.astype(np.float32))
    mean = float(sizes.mean()) + 1e-9
    factors = [np.ones(n) for n in sizes.shape]
    for _ in range(_ROUNDS):
        for axis in range(3):
            factors[axis] = _factor(sizes, factors, axis, mean)
    rows, columns, places = (np.log2(factor) for factor in factors)
    return Loudness((rows + np.log2(mean), columns, places))


def _factor(
    sizes: NDArray[np.float32], factors: list[NDArray[np.float64]], axis: int, mean: float
) -> NDArray[np.float64]:
    """How much louder the indices of an axis are than the other axes explain."""
    count = sizes.size // sizes.shape[axis]
    if sizes.shape[axis] == 1:
        return np.ones(1)
    others = [1 / f if i != axis else np.ones(1) for i, f in enumerate(factors)]
    letters = "abc".replace("abc"[axis], "")
    weights = [others[i] for i in range(3) if i != axis]
    summed = np.einsum(
        f"abc,{letters[0]},{letters[1]}->{'abc'[axis]}", sizes, *weights, optimize=True
    )
    found: NDArray[np.float64] = (summed / mean + _PRIOR) / (count + _PRIOR)
    return np.maximum(found, _LEAST)
