"""Scales and zero points: all that export needs to know about a quantiser."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Integers = NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True)
class Encoding:
    """An affine quantiser, x ~ scale * (q - zero_point), where q is the nearest of its `levels`.

    `scale` and `zero_point` are 0-d for one per tensor, 1-d for one per index along `axis`.
    Signed encodings are symmetric with a narrow range: 8 bits are -127..127, 2 bits -1..1; a
    single bit is the sign, -1 or 1 (Courbariaux et al. 2016). A `codebook` (1-d, ascending, at
    most 2^bits integers) stands in for the range. `channel_bits` are those of each index along
    `axis` where they differ; `bits` is then the most of them.
    """

    scale: Array
    zero_point: NDArray[np.int64]
    axis: int | None = None
    bits: int = 8
    signed: bool = False
    codebook: Integers | None = None
    channel_bits: tuple[int, ...] = ()

    @property
    def parts(self) -> "list[tuple[NDArray[np.int64], Encoding]]":
        """Indices along `axis` with the encoding of one width that they share, fewest bits first.

        Of an encoding that has but one width: none.
        """
        each = np.array(self.channel_bits, np.int64)
        indices = {int(bits): np.flatnonzero(each == bits) for bits in np.unique(each)}
        return [(index, self._part(index, bits)) for bits, index in indices.items()]

    @property
    def levels(self) -> Integers:
        """The integers that there are, ascending, as int8 or uint8."""
        return levels_of(self.bits, self.signed) if self.codebook is None else self.codebook

    @property
    def lowest(self) -> int:
        """The least integer."""
        return int(self.levels[0])

    @property
    def highest(self) -> int:
        """The greatest integer."""
        return int(self.levels[-1])

    def quantize(self, values: Array) -> Integers:
        """The integers that stand for `values` (same shape), as int8 or uint8.

        Halfway between two integers of a range it is the even one, else the upper one.
        """
        if self.channel_bits:
            return self._by_parts(values)
        scale, zero_point = self._along(values.ndim)
        levels = self.levels
        if len(levels) <= self.highest - self.lowest:
            between = (levels[1:].astype(np.float64) + levels[:-1]) / 2
            return levels[np.searchsorted(between, values / scale + zero_point, side="right")]
        steps = np.rint(values / scale) + zero_point
        return np.asarray(np.clip(steps, self.lowest, self.highest), levels.dtype)

    def dequantize(self, integers: Integers) -> Array:
        """The values that `integers` stand for (same shape)."""
        scale, zero_point = self._along(integers.ndim)
        return np.asarray((integers.astype(np.int64) - zero_point) * scale, np.float32)

    def _by_parts(self, values: Array) -> Integers:
        found = np.empty(values.shape, self.levels.dtype)
        for index, part in self.parts:
            at = (slice(None),) * (self.axis or 0) + (index,)
            found[at] = part.quantize(values[at])
        return found

    def _part(self, index: NDArray[np.int64], bits: int) -> "Encoding":
        scale, zeros = self.scale[index], self.zero_point[index]
        return replace(self, scale=scale, zero_point=zeros, bits=bits, channel_bits=())

    def _along(self, ndim: int) -> tuple[Array, NDArray[np.int64]]:
        """Scale and zero point, ready to broadcast against an `ndim`-d array."""
        if self.axis is None:
            return self.scale, self.zero_point
        shape = [-1 if i == self.axis else 1 for i in range(ndim)]
        return self.scale.reshape(shape), self.zero_point.reshape(shape)


@cache
def levels_of(bits: int, signed: bool = True) -> Integers:
    """The integers of so many bits, ascending, as int8 or uint8."""
    if not signed:
        return np.arange(1 << bits, dtype=np.uint8)
    if bits == 1:
        return np.array([-1, 1], np.int8)
    highest = (1 << (bits - 1)) - 1
    return np.arange(-highest, highest + 1, dtype=np.int8)


def covering(values: Array, axis: int, bits: int, channel_bits: tuple[int, ...] = ()) -> Encoding:
    """The signed encoding whose ranges end at the largest magnitude of each index along `axis`."""
    others = tuple(i for i in range(values.ndim) if i != axis)
    top = np.maximum(np.abs(values).max(axis=others), 1e-8)
    ends = 2.0 ** (np.array(channel_bits or bits) - 1) - 1
    scale = (top / ends if bits > 1 else top).astype(np.float32)
    zeros = np.zeros(scale.shape, np.int64)
    return Encoding(scale, zeros, axis, bits, signed=True, channel_bits=channel_bits)


@dataclass(frozen=True, slots=True)
class Encodings:
    """Of a whole network: per quantised activation tensor and per quantised initializer."""

    activations: Mapping[str, Encoding]
    weights: Mapping[str, Encoding]
