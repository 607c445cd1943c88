"""Activations of fewer than 8 bits as bytes: the same values, on the kernels for 8 bits.

QuantizeLinear saturates at 0 and 255 and nowhere else. A Clip of the integers in front of
DequantizeLinear does the rest, and onnxruntime fuses on either side of it (a Clip of floats, or one
in front of a weight, stops it).
"""

from dataclasses import dataclass

import onnx

from hwprune.quantize.encodings import Encoding

_SIGNED = 128  # what zero is as a byte, where there are negative integers
_HAIR = 1e-20  # a step so small that every number but zero saturates


@dataclass(frozen=True, slots=True)
class Steps:
    """What QuantizeLinear and DequantizeLinear are told."""

    scale: float
    zero_point: int


@dataclass(frozen=True, slots=True)
class ByteForm:
    """`made` by QuantizeLinear, then clipped to `bounds` (None: no need), `read` as other steps."""

    made: Steps
    bounds: tuple[int, int] | None
    read: Steps


def in_bytes(encoding: Encoding) -> ByteForm:
    """How the integers of a per-tensor encoding are computed and read as uint8."""
    shift = _SIGNED if encoding.signed else 0
    low, high = encoding.lowest + shift, encoding.highest + shift
    read = Steps(float(encoding.scale), int(encoding.zero_point) + shift)
    if len(encoding.levels) == 2 and encoding.signed:  # 0 becomes the upper bound: its sign is +1
        return ByteForm(Steps(_HAIR, high), (low, high), read)
    return ByteForm(read, None if (low, high) == (0, 255) else (low, high), read)


def narrowed(model: onnx.ModelProto) -> list[str]:
    """Of a lowered model: the tensors that have fewer than 8 bits, at the price of a Clip each."""
    made = {out for n in model.graph.node if n.op_type == "QuantizeLinear" for out in n.output}
    return [n.output[0] for n in model.graph.node if n.op_type == "Clip" and n.input[0] in made]
