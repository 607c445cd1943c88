"""Scales and zero points: all that export needs to know about a quantiser."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Encoding:
    """An affine quantiser, x ~ scale * (q - zero_point), q rounded half to even and saturated.

    `scale` and `zero_point` are 0-d for one per tensor, 1-d for one per index along `axis`.
    Signed encodings are symmetric with a narrow range: 8 bits are -127..127.
    """

    scale: Array
    zero_point: NDArray[np.int64]
    axis: int | None = None
    bits: int = 8
    signed: bool = False

    @property
    def lowest(self) -> int:
        """The least integer."""
        return 1 - 2 ** (self.bits - 1) if self.signed else 0

    @property
    def highest(self) -> int:
        """The greatest integer."""
        return 2 ** (self.bits - 1) - 1 if self.signed else 2**self.bits - 1

    def quantize(self, values: Array) -> NDArray[np.int8] | NDArray[np.uint8]:
        """The integers that stand for `values` (same shape)."""
        steps = np.rint(values / self._along(self.scale, values.ndim))
        integers = np.clip(
            steps + self._along(self.zero_point, values.ndim), self.lowest, self.highest
        )
        return integers.astype(np.int8 if self.signed else np.uint8)

    def dequantize(self, integers: NDArray[np.integer]) -> Array:
        """The values that `integers` stand for (same shape)."""
        centred = integers.astype(np.int64) - self._along(self.zero_point, integers.ndim)
        values: Array = (centred * self._along(self.scale, integers.ndim)).astype(np.float32)
        return values

    def _along(self, parameter: NDArray[np.generic], ndim: int) -> NDArray[np.generic]:
        if self.axis is None:
            return parameter
        return parameter.reshape([-1 if i == self.axis else 1 for i in range(ndim)])


@dataclass(frozen=True, slots=True)
class Encodings:
    """Of a whole network: per quantised activation tensor and per quantised initializer."""

    activations: Mapping[str, Encoding]
    weights: Mapping[str, Encoding]
