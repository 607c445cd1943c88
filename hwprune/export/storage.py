"""Weights in as few bits as their levels need, decoded by operators that the runtime folds.

A byte has 256 values: enough for eight weights of 1 bit, five ternary ones, two of 4 bits. A word
of two bytes has 65,536: enough for five weights of 3 bits, three of 5. The file holds bytes or
words, whichever are denser, and, once for all layers with the same levels, what makes the table of
the weights that each of them stands for. Reading the table gives int8 weights in front of the
DequantizeLinear. Runtimes fold constants before they fuse, so the layer runs its int8 kernel, as
fast as if all bytes stood in the file. No operator here is newer than opset 13: a file keeps its
opset, older runtimes read it, and none has to know 4-bit types.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import inf
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from hwprune.quantize.encodings import Integers

Values = NDArray[Any]
Parts = Sequence[tuple[NDArray[np.int64], Integers]]  # indices along an axis, and their levels

_DECODER_BYTES = 96  # of the operators that decode one layer, names of up to five letters
_CUT_BYTES = 88  # of those that cut off what fills up the last byte
_JOIN_BYTES = 120  # of those that put parts of a weight together, but for a byte for each output
_SPARSE_BYTES = 260  # of those that put what is not zero into its places
_MOST_LEVELS = 1 << 16  # that a word tells apart
_SCALE_BYTES = 5  # of a channel: the weight's scale and zero point
_BIAS_BYTES = 8  # of a channel: the bias and its scale


@dataclass(frozen=True, slots=True)
class Word:
    """An unsigned integer of one or two bytes that stands for `count` weights of `levels` each."""

    levels: int
    bytes: int
    count: int

    @property
    def powers(self) -> NDArray[np.int32]:
        """What its digits to the base `levels` count, the most significant first."""
        return np.array([self.levels**i for i in reversed(range(self.count))], np.int32)

    def words(self, weights: int) -> int:
        """How many hold so many weights."""
        return -(-weights // self.count)


@cache
def word_of(levels: int) -> Word:
    """The denser one for weights of 2 to 65,536 levels: the most that a byte or two tell apart."""
    if levels > 256:
        return Word(levels, 2, 1)
    byte, pair = (_most(levels, 256**size) for size in (1, 2))
    return Word(levels, 2, pair) if pair > 2 * byte else Word(levels, 1, byte)


def _most(levels: int, values: int) -> int:
    """The largest n with levels^n <= values."""
    count = 1
    while levels ** (count + 1) <= values:
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


def stored_parts_bytes(each: int, outputs: Mapping[int, int], bias: bool = True) -> int:
    """`stored_bytes` of a layer whose outputs differ in their levels.

    Args:
        each: Weights of one output.
        outputs: How many have so many levels.
        bias: Whether they have one.
    """
    count = sum(outputs.values())
    whole = stored_bytes(each * count, max(outputs), count, bias)
    if len(outputs) == 1:
        return whole
    parameters = count * (_SCALE_BYTES + bias * _BIAS_BYTES)
    return min(each * count, _parts_bytes(each, outputs)) + parameters


def _parts_bytes(each: int, outputs: Mapping[int, int]) -> int:
    """Of the weights, and of what puts them together."""
    parts = (stored_bytes(each * count, levels) for levels, count in outputs.items())
    return sum(parts) + _JOIN_BYTES + sum(outputs.values())


def _stops(places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places, and so many more between them that no gap is wider than a byte tells."""
    gaps = np.diff(places, prepend=-1)
    more = (gaps - 1) // 255
    ends = np.repeat(places, more + 1)
    back = np.arange(len(ends)) - np.repeat(np.cumsum(more + 1) - 1, more + 1)
    found: NDArray[np.int64] = ends + 255 * back
    return found


def _table_bytes(weights: int, levels: Values) -> float:
    """Of weights by their index into their levels; levels of a byte are as good as shared."""
    if not 2 <= len(levels) <= _MOST_LEVELS:
        return inf
    return _packed_bytes(weights, len(levels)) + (levels.itemsize - 1) * len(levels)


def _packed_bytes(weights: int, levels: int) -> int:
    word = word_of(levels)
    cut = _CUT_BYTES if weights % word.count else 0
    return word.words(weights) * word.bytes + _DECODER_BYTES + cut


def pack(codes: Integers, levels: int) -> NDArray[np.unsignedinteger[Any]]:
    """Numbers below `levels`, as many to a word as fit, the first one its most significant digit.

    Zeros fill up the last word.
    """
    word = word_of(levels)
    padded = np.zeros(word.words(codes.size) * word.count, np.int64)
    padded[: codes.size] = codes.ravel()
    packed = padded.reshape(-1, word.count) @ word.powers
    return packed.astype(np.uint8 if word.bytes == 1 else np.uint16)


class Storage:
    """Adds weights to a graph; what several layers need is added once."""

    def __init__(self, graph: gs.Graph) -> None:
        self._graph = graph
        self._tensors = 0
        self._shared: dict[Any, gs.Tensor] = {}

    def add(self, name: str, weights: Values, levels: Values) -> gs.Tensor:
        """The tensor `weights`, each of them one of `levels` (ascending).

        A constant called `name` where that takes no more bytes than the packed form.
        """
        own_levels = (levels.itemsize - 1) * len(levels)
        if (
            len(levels) < 2
            or _packed_bytes(weights.size, len(levels)) + own_levels >= weights.nbytes
        ):
            return gs.Constant(name, weights)
        packed = gs.Constant(name, pack(np.searchsorted(levels, weights), len(levels)))
        index = self._apply("Cast", [packed], to=int(onnx.TensorProto.INT32))
        found = self._apply("Gather", [self._table(levels), index])
        if weights.size % word_of(len(levels)).count:
            flat = self._apply("Reshape", [found, self._constant([-1])])
            ends = [self._constant([0]), self._constant([weights.size])]
            found = self._apply("Slice", [flat, *ends])
        return self._apply("Reshape", [found, self._constant(weights.shape)])

    def add_sparse(self, name: str, weights: Values, levels: Values) -> gs.Tensor | None:
        """The tensor `weights` as what is not zero, and the gaps between; None where the other
        forms take no more bytes.

        A gap of more than a byte holds stops at a zero on its way.
        """
        places = _stops(np.flatnonzero(weights))
        kept = weights.reshape(-1)[places]
        dense = min(weights.nbytes, _table_bytes(weights.size, levels))
        sparse = len(kept) + min(kept.nbytes, _table_bytes(len(kept), levels)) + _SPARSE_BYTES
        if not len(places) or sparse >= dense:
            return None
        gaps = gs.Constant(self._name(), np.diff(places, prepend=-1).astype(np.uint8))
        wide = self._apply("Cast", [gaps], to=int(onnx.TensorProto.INT64))
        steps = self._apply("CumSum", [wide, self._scalar(0)])
        index = self._apply("Sub", [steps, self._once(np.asarray(1, np.int64))])
        blank = self._zeros(weights.size, weights.dtype)
        values = self.add(f"{name}/values", kept, np.unique(kept))
        found = self._apply("ScatterElements", [blank, index, values], axis=0)
        return self._apply("Reshape", [found, self._constant(weights.shape)])

    def _zeros(self, count: int, dtype: np.dtype[Any]) -> gs.Tensor:
        """So many of them; as one number and its shape."""
        zero = gs.Constant(self._name(), np.zeros(1, dtype))
        return self._apply("Expand", [zero, self._constant([count])])

    def add_parts(self, name: str, weights: Integers, axis: int, parts: Parts) -> gs.Tensor:
        """The int8 tensor `weights`, of which indices along `axis` share levels.

        Each part is stored as `add` does, one behind the other, and brought back into order; or all
        at once with everybody's levels, where that takes no more bytes.
        """
        joint = np.unique(np.concatenate([levels for _, levels in parts]))
        counts = {len(levels): len(index) for index, levels in parts}
        each = weights.size // weights.shape[axis]
        if _parts_bytes(each, counts) >= min(weights.size, _packed_bytes(weights.size, len(joint))):
            return self.add(name, weights, joint)
        apart = [
            self.add(f"{name}/{i}", np.take(weights, index, axis), levels)
            for i, (index, levels) in enumerate(parts)
        ]
        order = np.argsort(np.concatenate([index for index, _ in parts]))
        joined = self._apply("Concat", apart, axis=axis)
        if np.all(np.diff(order) == 1):
            return joined
        small = gs.Constant(self._name(), order.astype(np.min_scalar_type(len(order) - 1)))
        index = self._apply("Cast", [small], to=int(onnx.TensorProto.INT32))
        return self._apply("Gather", [joined, index], axis=axis)

    def _table(self, levels: Integers) -> gs.Tensor:
        """A row for every word: the weights that it stands for."""
        key = ("table", levels.tobytes())
        if key not in self._shared:
            constant = gs.Constant(self._name(), levels)
            self._shared[key] = self._apply("Gather", [constant, self._digits(len(levels))])
        return self._shared[key]

    def _digits(self, levels: int) -> gs.Tensor:
        """Row n: the digits of n to the base `levels`."""
        key = ("digits", levels)
        if key not in self._shared:
            word = word_of(levels)
            ends = [self._scalar(0), self._scalar(levels**word.count)]
            row = self._apply("Range", [*ends, self._scalar(1)])
            column = self._apply("Reshape", [row, self._constant([-1, 1])])
            shifted = self._apply("Div", [column, gs.Constant(self._name(), word.powers)])
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
