"""Weights in as few bits as their levels need, decoded by operators that the runtime folds.

A byte has 256 values: enough for eight weights of 1 bit, five ternary ones, two of 3 or 4 bits. The
file holds these bytes and, once for all layers with the same levels, what makes the table of the
weights that each byte stands for. Reading the table gives int8 weights in front of the
DequantizeLinear. Runtimes fold constants before they fuse, so the layer runs its int8 kernel, as
fast as if all bytes stood in the file. No operator here is newer than opset 13: a file keeps its
opset, older runtimes read it, and none has to know 4-bit types.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from hwprune.quantize.encodings import Integers

_DECODER_BYTES = 96  # of the operators that decode one layer, names of up to five letters
_CUT_BYTES = 88  # of those that cut off what fills up the last byte
_SCALE_BYTES = 5  # of a channel: the weight's scale and zero point
_BIAS_BYTES = 8  # of a channel: the bias and its scale


def per_byte(levels: int) -> int:
    """Weights of `levels` (2 or more) that a byte tells apart: the largest n, levels^n <= 256."""
    count = 1
    while levels ** (count + 1) <= 256:
        count += 1
    return count


def stored_bytes(weights: int, levels: int, channels: int = 0, bias: bool = True) -> int:
    """What a quantised layer takes in a file beside names and operators, which stay the same.

    To within 40 bytes a layer (names and lengths differ). What all layers of the same levels share
    comes on top once, some 350 bytes, and 50 for every shape of a weight.

    Args:
        weights: How many; in whichever form takes less, the decoder's operators included.
        levels: How many integers a weight may be: 2 for 1 bit, else 2^bits - 1.
        channels: So many have a scale of their own.
        bias: Whether they have one.
    """
    parameters = channels * (_SCALE_BYTES + bias * _BIAS_BYTES)
    return min(weights, _packed_bytes(weights, levels)) + parameters


def _packed_bytes(weights: int, levels: int) -> int:
    count = per_byte(levels)
    return -(-weights // count) + _DECODER_BYTES + (_CUT_BYTES if weights % count else 0)


def pack(codes: Integers, levels: int) -> NDArray[np.uint8]:
    """Numbers below `levels`, as many to a byte as fit, the first one its most significant digit.

    Zeros fill up the last byte.
    """
    count = per_byte(levels)
    padded = np.zeros(-(-codes.size // count) * count, np.int64)
    padded[: codes.size] = codes.ravel()
    return np.asarray(padded.reshape(-1, count) @ _powers(levels), np.uint8)


class Storage:
    """Adds weights to a graph; what several layers need is added once."""

    def __init__(self, graph: gs.Graph) -> None:
        self._graph = graph
        self._tensors = 0
        self._shared: dict[Any, gs.Tensor] = {}

    def add(self, name: str, weights: Integers, levels: Integers) -> gs.Tensor:
        """The int8 tensor `weights`, each of them one of `levels` (ascending).

        A constant called `name` where that takes no more bytes than the packed form.
        """
        if _packed_bytes(weights.size, len(levels)) >= weights.size:
            return gs.Constant(name, weights)
        packed = gs.Constant(name, pack(np.searchsorted(levels, weights), len(levels)))
        index = self._apply("Cast", [packed], to=int(onnx.TensorProto.INT32))
        found = self._apply("Gather", [self._table(levels), index])
        if weights.size % per_byte(len(levels)):
            flat = self._apply("Reshape", [found, self._constant([-1])])
            ends = [self._constant([0]), self._constant([weights.size])]
            found = self._apply("Slice", [flat, *ends])
        return self._apply("Reshape", [found, self._constant(weights.shape)])

    def _table(self, levels: Integers) -> gs.Tensor:
        """256 rows or fewer: the weights that every byte stands for."""
        key = ("table", levels.tobytes())
        if key not in self._shared:
            constant = gs.Constant(self._name(), levels)
            self._shared[key] = self._apply("Gather", [constant, self._digits(len(levels))])
        return self._shared[key]

    def _digits(self, levels: int) -> gs.Tensor:
        """Row n: the digits of n to the base `levels`."""
        key = ("digits", levels)
        if key not in self._shared:
            powers = _powers(levels)
            ends = [self._scalar(0), self._scalar(levels ** len(powers))]
            row = self._apply("Range", [*ends, self._scalar(1)])
            column = self._apply("Reshape", [row, self._constant([-1, 1])])
            shifted = self._apply("Div", [column, gs.Constant(self._name(), powers)])
            self._shared[key] = self._apply("Mod", [shifted, self._scalar(levels)])
        return self._shared[key]

    def _scalar(self, value: int) -> gs.Tensor:
        return self._once(np.asarray(value, np.int32))

    def _constant(self, values: Sequence[int]) -> gs.Tensor:
        return self._once(np.asarray(values, np.int64))

    def _once(self, values: NDArray[Any]) -> gs.Tensor:
        key = (values.dtype, values.shape, values.tobytes())
        if key not in self._shared:
            self._shared[key] = gs.Constant(self._name(), values)
        return self._shared[key]

    def _apply(self, op: str, inputs: list[gs.Tensor], **attributes: int) -> gs.Variable:
        """A node without a name: there may be many, and names are bytes."""
        out = gs.Variable(self._name())
        self._graph.nodes.append(gs.Node(op, "", attributes, inputs, [out]))
        return out

    def _name(self) -> str:
        """Of one of our tensors."""
        self._tensors += 1
        return f"~{self._tensors}"


def _powers(base: int) -> NDArray[np.int32]:
    """What a byte's digits to that base count, the most significant first."""
    count = per_byte(base)
    return np.array([base**i for i in reversed(range(count))], np.int32)
