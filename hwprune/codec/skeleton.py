"""Where the tensors' bytes stand in a serialised ONNX model.

A .hwp file holds what stands between them, and codes of them, so that a decoder puts a model
together without knowing ONNX. Only the wire format of protobuf is read here, as the parsed model
does not tell offsets.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx
from numpy.typing import NDArray

_LENGTH, _VARINT, _EIGHT, _FOUR = 2, 0, 1, 5  # protobuf wire types

# message -> field number -> message in that field (onnx.proto)
_WITHIN = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_NODE_OUTPUT = 2
_LARGE = 1 << 16  # bytes of a node
_DIMS, _TYPE, _FLOATS, _NAME, _RAW, _DOUBLES = 1, 2, 4, 8, 9, 10


@dataclass(frozen=True, slots=True)
class Hole:
    """The bytes of one tensor: `model[start:stop]`, elements in little-endian order.

    `name` is that of the initializer, or of what its node puts out.
    """

    name: str
    start: int
    stop: int
    kind: int  # onnx.TensorProto.DataType
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many bytes."""
        return self.stop - self.start

    @property
    def dtype(self) -> np.dtype[np.generic] | None:
        """Of its elements; None where numpy has no such type."""
        if self.kind not in onnx.helper.get_all_tensor_dtypes():
            return None
        found = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(self.kind))
        numpys = found.isbuiltin == 1 and found.kind in "fiu"
        whole = numpys and prod(self.shape) * found.itemsize == self.size
        return found.newbyteorder("<") if whole else None

    def read(self, model: bytes) -> NDArray[np.generic]:
        """The elements, of `dtype`; a view."""
        dtype = self.dtype or np.dtype(np.uint8)
        count = self.size // dtype.itemsize
        return np.frombuffer(model, dtype, count, self.start).reshape(self.shape)


def holes(model: bytes) -> list[Hole]:
    """The tensors of a serialised model that hold bytes, in the order in which they stand."""
    found = _within(model, 0, len(model), "model", "")
    return sorted(found, key=lambda hole: hole.start)


def elements(found: Sequence[Hole]) -> int:
    """How many numbers they hold."""
    return sum(prod(hole.shape) for hole in found)


def nodes(model: bytes) -> Iterator[onnx.NodeProto]:
    """Those of the graph itself, but for the few that hold much."""
    for number, _, a, b in _fields(model, 0, len(model)):
        if _WITHIN["model"].get(number) == "graph":
            fields = _fields(model, a, b)
            inside = ((c, d) for n, _, c, d in fields if _WITHIN["graph"].get(n) == "node")
            yield from (onnx.NodeProto.FromString(model[c:d]) for c, d in inside if d - c < _LARGE)


def literals(model: bytes, found: Sequence[Hole]) -> list[bytes]:
    """What stands before, between and behind them."""
    starts = [0, *(hole.stop for hole in found)]
    stops = [*(hole.start for hole in found), len(model)]
    return [model[start:stop] for start, stop in zip(starts, stops, strict=True)]


def _within(data: bytes, start: int, stop: int, message: str, owner: str) -> Iterator[Hole]:
    fields = list(_fields(data, start, stop))
    if message == "tensor":
        yield from _hole(data, fields, owner)
        return
    if message == "node":
        outputs = [data[a:b] for number, _, a, b in fields if number == _NODE_OUTPUT]
        owner = outputs[0].decode("utf-8", "replace") if outputs else ""
    for number, wire, a, b in fields:
        inner = _WITHIN[message].get(number)
        if inner and wire == _LENGTH:
            yield from _within(data, a, b, inner, "" if inner == "graph" else owner)


Field = tuple[int, int, int, int]  # number, wire type, and where its content stands


def _fields(data: bytes, at: int, stop: int) -> Iterator[Field]:
    while at < stop:
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == _LENGTH:
            length, at = _varint(data, at)
            yield number, wire, at, at + length
            at += length
        elif wire == _VARINT:
            _, end = _varint(data, at)
            yield number, wire, at, end
            at = end
        else:
            size = {_EIGHT: 8, _FOUR: 4}.get(wire, 0)  # a group's ends; its fields are between
            yield number, wire, at, at + size
            at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _hole(data: bytes, fields: list[Field], owner: str) -> Iterator[Hole]:
    """A tensor's bytes, where they stand in one piece."""
    kinds = [_varint(data, a)[0] for number, _, a, _ in fields if number == _TYPE]
    names = [data[a:b].decode("utf-8", "replace") for number, _, a, b in fields if number == _NAME]
    held = [f for f in fields if f[0] in (_RAW, _FLOATS, _DOUBLES) and f[1] == _LENGTH]
    if len(held) == 1 and kinds and held[0][3] > held[0][2]:
        _, _, start, stop = held[0]
        name = owner or (names[-1] if names else "")
        yield Hole(name, start, stop, kinds[-1], tuple(_dims(data, fields)))


def _dims(data: bytes, fields: list[Field]) -> Iterator[int]:
    """Packed or one by one."""
    for number, _wire, start, stop in fields:
        if number != _DIMS:
            continue
        while start < stop:
            value, start = _varint(data, start)
            yield value
