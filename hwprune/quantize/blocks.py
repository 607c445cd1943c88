"""Weights in blocks: few bits each, a scale and a zero point for some inputs of one output."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwprune.precision import Blockwise
from hwprune.quantize.encodings import Array

_SHRUNK = (0.9, 0.8, 0.7, 0.6, 0.5)  # shares of a block's range that are tried beside the whole
_FINE_BITS = 8  # so many bits lose more by cutting the range off than they gain
_PORTION = 1 << 20  # values that are worked on at once

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Blocks:
    """A matrix `outputs x inner`, w ~ scale * (q - zero_point) with q of 0 to 2^bits - 1.

    `integers` is `outputs x blocks x block` (the last block filled up with what stands for zero),
    `scale` and `zero_point` are `outputs x blocks`.
    """

    bits: int
    inner: int
    integers: Bytes
    scale: Array
    zero_point: Bytes

    def dequantize(self) -> Array:
        """The matrix that they stand for, `outputs x inner`."""
        steps = self.integers.astype(np.float32) - self.zero_point[..., None]
        return _joined(steps * self.scale[..., None], self.inner)


def quantize_blocks(matrix: Array, kind: Blockwise) -> Blocks:
    """Rounds `matrix` (`outputs x inner`) to the nearest steps, block by block.

    The range of a block holds zero and, of the shares that are tried, as much of its values as
    brings the least square error: round to nearest with clipping by grid search.
    """
    rows = max(1, _PORTION // max(1, matrix.shape[1]))
    starts = range(0, max(1, len(matrix)), rows)
    portions = [_best(_blocked(matrix[i : i + rows], kind), kind.bits) for i in starts]
    integers, scale, zero = (np.concatenate(parts) for parts in zip(*portions, strict=True))
    return Blocks(kind.bits, matrix.shape[1], integers, scale, zero)


def _best(values: Array, bits: int) -> tuple[Bytes, Array, Bytes]:
    """Integers, scales and zero points of the best shares."""
    integers, scale, zero = _stepped(values, bits, 1.0)
    least = _error(values, integers, scale, zero)
    for share in _SHRUNK if bits < _FINE_BITS else ():
        tried = _stepped(values, bits, share)
        error = _error(values, *tried)
        better = error < least
        integers[better], scale[better], zero[better] = (part[better] for part in tried)
        least = np.minimum(error, least)
    return integers, scale, zero


def _blocked(matrix: Array, kind: Blockwise) -> Array:
    """`outputs x blocks x block`, filled up with zeros."""
    outputs, inner = matrix.shape
    blocks = kind.blocks(inner)
    filled = np.zeros((outputs, blocks * kind.block), np.float32)
    filled[:, :inner] = matrix
    return filled.reshape(outputs, blocks, kind.block)


def _joined(blocks: Array, inner: int) -> Array:
    return np.ascontiguousarray(blocks.reshape(len(blocks), -1)[:, :inner])


def _stepped(values: Array, bits: int, share: float) -> tuple[Bytes, Array, Bytes]:
    """Integers, scales and zero points where `share` of each block's range is kept."""
    most = np.float32(2**bits - 1)
    low = np.float32(share) * np.minimum(values.min(axis=-1), 0)
    high = np.float32(share) * np.maximum(values.max(axis=-1), 0)
    scale = np.maximum((high - low) / most, np.float32(1e-20))
    zero = np.clip(np.rint(-low / scale), 0, most)
    steps = np.clip(np.rint(values / scale[..., None]) + zero[..., None], 0, most)
    return steps.astype(np.uint8), scale, zero.astype(np.uint8)


def _error(values: Array, integers: Bytes, scale: Array, zero: Bytes) -> Array:
    """Square error per block."""
    found = (integers.astype(np.float32) - zero[..., None]) * scale[..., None]
    return np.asarray(np.square(found - values).sum(axis=-1), np.float32)
