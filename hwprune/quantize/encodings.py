"""Scales and zero points: all that export needs to know about a quantiser."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Integers = NDArray[np.integer[Any]]


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
        return 1 - (1 << (self.bits - 1)) if self.signed else 0

    @property
    def highest(self) -> int:
        """The greatest integer."""
        return (1 << (self.bits - int(self.signed))) - 1

    def quantize(self, values: Array) -> Integers:
        """The integers that stand for `values` (same shape), as int8 or uint8."""
        scale, zero_point = self._along(values.ndim)
        steps = np.rint(values / scale) + zero_point
        kind = np.int8 if self.signed else np.uint8
        return np.asarray(np.clip(steps, self.lowest, self.highest), kind)

    def dequantize(self, integers: Integers) -> Array:
        """The values that `integers` stand for (same shape)."""
        scale, zero_point = self._along(integers.ndim)
        return np.asarray((integers.astype(np.int64) - zero_point) * scale, np.float32)

    def _along(self, ndim: int) -> tuple[Array, NDArray[np.int64]]:
        """Scale and zero point, ready to broadcast against an `ndim`-d array."""
        if self.axis is None:
            return self.scale, self.zero_point
        shape = [-1 if i == self.axis else 1 for i in range(ndim)]
        return self.scale.reshape(shape), self.zero_point.reshape(shape)


def covering(values: Array, axis: int, bits: int) -> Encoding:
    """The signed encoding whose ranges end at the largest magnitude of each index along `axis`."""
    others = tuple(i for i in range(values.ndim) if i != axis)
    top = np.maximum(np.abs(values).max(axis=others), 1e-8)
    scale = (top / (2 ** (bits - 1) - 1)).astype(np.float32)
    return Encoding(scale, np.zeros(scale.shape, np.int64), axis, bits, signed=True)


@dataclass(frozen=True, slots=True)
class Encodings:
    """Of a whole network: per quantised activation tensor and per quantised initializer."""

    activations: Mapping[str, Encoding]
    weights: Mapping[str, Encoding]
