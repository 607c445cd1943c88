"""What a node may compute in, by name: the options of a kernel variable, and what they mean.

`fp32`
    as the network came.
`int8`
    integers in and out between QuantizeLinear and DequantizeLinear (QDQ): ranges are calibrated,
    and changing to and from it costs kernels of their own.
`dynamic-int8`, `nbits-<bits>/<block>`
    kernels of products with a constant matrix. They read and write fp32 and round what they read
    themselves: to uint8 by the range of each call, or to int8 by the largest of `block` values.
    The weight has int8 columns, or `bits` for each value with a scale and a zero point per block.
"""

import re
from dataclasses import dataclass

FP32, INT8, DYNAMIC_INT8 = "fp32", "int8", "dynamic-int8"
FULL_BITS = 7  # the fewest that an integer kernel multiplies; fewer are storage alone
_BLOCKWISE = re.compile(r"nbits-([248])/(16|32|64|128|256)")


@dataclass(frozen=True, slots=True)
class Blockwise:
    """A weight of `bits` each, with one scale and zero point for `block` inputs of an output."""

    bits: int
    block: int

    @property
    def name(self) -> str:
        """As in a plan."""
        return f"nbits-{self.bits}/{self.block}"

    def blocks(self, inner: int) -> int:
        """How many a row of `inner` weights has; the last one need not be full."""
        return -(-inner // self.block)


def blockwise(precision: str) -> Blockwise | None:
    """What `precision` says about its blocks; None if it has none."""
    match = _BLOCKWISE.fullmatch(precision)
    return Blockwise(int(match[1]), int(match[2])) if match else None


def of_matrices(precision: str) -> bool:
    """Whether only products with a constant matrix compute in it."""
    return precision == DYNAMIC_INT8 or blockwise(precision) is not None


def is_known(precision: str) -> bool:
    """Whether it is one of this file's."""
    return precision in (FP32, INT8) or of_matrices(precision)


def is_storage_alone(precision: str, bits: int) -> bool:
    """Whether a weight has fewer bits in the file than its int8 kernel multiplies."""
    return precision == INT8 and bits < FULL_BITS


def bits_of(precision: str, of_integers: int) -> int:
    """Bits of a weight, where the target gives int8 ones `of_integers`."""
    if precision == FP32:
        return 32
    blocks = blockwise(precision)
    return blocks.bits if blocks else of_integers


def bytes_per_weight(precision: str) -> float:
    """Bytes that a kernel reads per weight: its bits, and a scale (fp32) for each block."""
    blocks = blockwise(precision)
    if blocks:
        return blocks.bits / 8 + 4 / blocks.block
    return 4.0 if precision == FP32 else 1.0
