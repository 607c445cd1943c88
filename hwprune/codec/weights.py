"""The weights of a model that may be coded with loss: what multiplies, and how it is held."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from hwprune.codec.coded import view
from hwprune.codec.decoder.forms import Steps, as_stored
from hwprune.codec.skeleton import Hole

Values = NDArray[np.float32]
_LEAST = 256  # elements: smaller tensors are not worth a loss
_FLOATS: dict[int, str] = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.FLOAT16: "float16"}
_INTEGERS: dict[int, str] = {onnx.TensorProto.INT8: "int8", onnx.TensorProto.UINT8: "uint8"}
_WEIGHT_INPUTS = {  # operator -> its input that is a weight
    "Conv": 1,
    "ConvTranspose": 1,
    "Gemm": 1,
    "MatMul": 1,
    "LSTM": 1,
    "GRU": 1,
    "RNN": 1,
    "QLinearConv": 3,
    "QLinearMatMul": 3,
}
_RECURRENT = {"LSTM", "GRU", "RNN"}


@dataclass(frozen=True, slots=True)
class Grid:
    """Integers of a model: real weights are scale (q - zero), with a scale for each index of an
    axis of the weight, or one for all.
    """

    scale: int  # index of the hole that holds the scales
    axis: int
    zero: int
    steps: Values  # the scales


@dataclass(frozen=True, slots=True)
class Weight:
    """A tensor that is multiplied with data.

    `shape` is that of the tensor, `index` that of its hole; `values` are real, rows x columns x
    places; `data` is the tensor that `reader` multiplies them with. `grid` is None for floats.
    """

    index: int
    name: str
    dtype: str
    shape: tuple[int, ...]
    values: Values
    reader: onnx.NodeProto
    data: str
    grid: Grid | None

    @property
    def attributes(self) -> dict[str, Any]:
        """Of its reader."""
        found = {a.name: onnx.helper.get_attribute_value(a) for a in self.reader.attribute}
        return {"kernel_shape": self.shape[2:], **found}

    def stored(self, values: Values) -> NDArray[Any]:
        """Values (of the shape of its own) as the model holds them."""
        grid, steps = self.grid, None
        if grid is not None:
            steps = Steps(grid.steps, grid.axis, grid.zero)
        return as_stored(values, self.dtype, steps).reshape(self.shape)

    def entry(self, form: str) -> dict[str, Any]:
        """How a decoder is told to store its real values."""
        found: dict[str, Any] = {"form": form, "dtype": self.dtype}
        if self.grid is not None:
            found |= {"scale": self.grid.scale, "axis": self.grid.axis, "zero": self.grid.zero}
        return found


def weights(model: onnx.ModelProto, data: bytes, found: Sequence[Hole]) -> list[Weight]:
    """The weights of a model that was read from `data`, whose holes are `found`.

    Left out are tensors that something other than a product of matrices reads, that are small, that
    hold numbers which are not finite, and integers whose scales are computed.
    """
    by_name = {hole.name: i for i, hole in enumerate(found)}
    if len(by_name) < len(found):  # a name that is used twice, in branches: nobody knows by whom
        by_name = {n: i for n, i in by_name.items() if sum(h.name == n for h in found) == 1}
    fixed = tensors(model)
    readers = _readers(model)
    candidates = (
        _weight(name, index, found[index], data, readers, fixed, by_name)
        for name, index in by_name.items()
    )
    return sorted((w for w in candidates if w is not None), key=lambda w: w.index)


def tensors(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """By name the initializers, and what Constant nodes hold."""
    nodes = (n for n in model.graph.node if n.op_type == "Constant")
    constants = {n.output[0]: a.t for n in nodes for a in n.attribute if a.name == "value"}
    return {t.name: t for t in model.graph.initializer} | constants


def _readers(model: onnx.ModelProto) -> Mapping[str, list[tuple[onnx.NodeProto, int]]]:
    found: dict[str, list[tuple[onnx.NodeProto, int]]] = {}
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            found.setdefault(name, []).append((node, i))
    return found


def _weight(
    name: str,
    index: int,
    hole: Hole,
    data: bytes,
    readers: Mapping[str, list[tuple[onnx.NodeProto, int]]],
    fixed: Mapping[str, onnx.TensorProto],
    holes: Mapping[str, int],
) -> Weight | None:
    kind = (_FLOATS | _INTEGERS).get(hole.kind)
    if kind is None or hole.dtype is None or len(hole.shape) < 2 or np.prod(hole.shape) < _LEAST:
        return None
    values = hole.read(data).astype(np.float32, copy=False).reshape(view(hole.shape))
    grid = None
    if hole.kind in _INTEGERS:
        source = _quantised(name, readers, fixed)
        if source is None:
            return None
        name, scale, zero, axis = source
        steps = numpy_helper.to_array(fixed[scale]).reshape(-1)
        if scale not in holes or steps.dtype != np.float32 or not _fits(steps, values, axis):
            return None
        grid = Grid(holes[scale], axis if steps.size > 1 else 0, zero, steps)
        shape = [1, 1, 1]
        shape[grid.axis] = steps.size
        values = (values - np.float32(zero)) * steps.reshape(shape)
    reader = _reader(readers.get(name, []))
    if reader is None or not np.isfinite(values).all():
        return None
    own = onnx.NodeProto()  # which does not keep the whole model in memory
    own.CopyFrom(reader)
    return Weight(index, hole.name, kind, hole.shape, values, own, own.input[0], grid)


def _fits(steps: NDArray[Any], values: Values, axis: int) -> bool:
    usable = bool(np.isfinite(steps).all() and (steps > 0).all())
    return usable and (steps.size == 1 or (axis < 2 and steps.size == values.shape[axis]))


def _reader(found: Sequence[tuple[onnx.NodeProto, int]]) -> onnx.NodeProto | None:
    """Who multiplies by it, if nobody does anything else with it."""
    for node, i in found:
        own = _WEIGHT_INPUTS.get(node.op_type)
        if own != i and not (node.op_type in _RECURRENT and i == own + 1):  # type: ignore[operator]
            return None
    return found[0][0] if found else None


def _quantised(
    name: str,
    readers: Mapping[str, list[tuple[onnx.NodeProto, int]]],
    fixed: Mapping[str, onnx.TensorProto],
) -> tuple[str, str, int, int] | None:
    """Of integers: the tensor whose readers multiply, their scale's name, zero point and axis."""
    found = readers.get(name, [])
    if len(found) != 1:
        return None
    node, i = found[0]
    attributes = {a.name: a for a in node.attribute}
    if node.op_type == "DequantizeLinear" and i == 0 and "block_size" not in attributes:
        axis = attributes["axis"].i if "axis" in attributes else 1
        zero = _zero(node.input[2] if len(node.input) > 2 else "", fixed)
        rank = len(fixed[name].dims)
        ok = node.input[1] in fixed and zero is not None
        return (node.output[0], node.input[1], zero, axis % rank) if ok else None  # type: ignore[return-value]
    if node.op_type in {"QLinearConv", "QLinearMatMul"} and i == 3:
        zero = _zero(node.input[5], fixed)
        axis = 0 if node.op_type == "QLinearConv" else 1
        ok = node.input[4] in fixed and zero is not None
        return (name, node.input[4], zero, axis) if ok else None  # type: ignore[return-value]
    return None


def _zero(name: str, fixed: Mapping[str, onnx.TensorProto]) -> int | None:
    """The zero point, where all channels have the same."""
    if not name:
        return 0
    if name not in fixed:
        return None
    values = np.unique(numpy_helper.to_array(fixed[name]))
    return int(values[0]) if len(values) == 1 else None
