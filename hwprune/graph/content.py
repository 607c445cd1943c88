"""What the tensors of a parsed model must be like: of sane size, and finite unless they mask."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from hwprune.errors import UnsafeModelError
from hwprune.graph.proto import guarded, nodes, tensors
from hwprune.graph.weights import MAX_ELEMENTS, Weights

PROTOBUF_LIMIT = (2 << 30) - 1
_HIDING = frozenset({"Add", "Sub", "Where", "Pad", "Clip", "Max", "Min", "ScatterND"})
_MOVING = frozenset(
    {"Cast", "CastLike", "Concat", "Constant", "ConstantOfShape", "Expand", "Gather", "Identity"}
    | {"Reshape", "Slice", "Squeeze", "Tile", "Transpose", "Trilu", "Unsqueeze"}
)


def check_content(model: onnx.ModelProto, weights: Weights) -> None:
    """The checker of onnx, and finite weights. Raises ModelError or UnsafeModelError."""
    if model.ByteSize() <= PROTOBUF_LIMIT:
        with guarded("checking the model"):
            onnx.checker.check_model(model, full_check=True)
    check_numbers(model, weights)


def check_numbers(model: onnx.ModelProto, weights: Weights | None = None) -> None:
    """Finite weights, unless they mask something. Raises UnsafeModelError."""
    masks = _masks(model)
    for name, tensor in tensors(model):
        _check_finite(name, _values(tensor), name in masks)
    for name, values in (weights or {}).items():
        _check_finite(name, values, name in masks)


def _values(tensor: onnx.TensorProto) -> NDArray[Any]:
    if any(dim < 0 for dim in tensor.dims) or np.prod(tensor.dims, dtype=float) > MAX_ELEMENTS:
        raise UnsafeModelError(f"tensor {tensor.name!r} has the shape {list(tensor.dims)}")
    with guarded(f"reading weight {tensor.name!r}"):
        return np.asarray(onnx.numpy_helper.to_array(tensor))


def _check_finite(name: str, values: NDArray[Any], masks: bool) -> None:
    if not np.issubdtype(values.dtype, np.floating):
        return
    wrong = ~np.isfinite(values)
    if masks:  # nothing is hidden by adding infinity; single values are bounds
        wrong &= ~(np.isneginf(values) | (np.isposinf(values) & (values.size == 1)))
    if bad := int(np.count_nonzero(wrong)):
        raise UnsafeModelError(
            f"weight {name!r} has {bad} of {values.size} values that are NaN or infinite",
            "train or export the model again",
        )


def _masks(model: onnx.ModelProto) -> set[str]:
    """Tensors that only hide something: attention's masks, the padding in front of a MaxPool.

    What an Add, a Where or a Pad reads may be infinite, directly or after it was moved about.
    """
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in nodes(model):
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found: set[str] = set()
    for node in reversed(list(nodes(model))):  # readers stand behind what they read
        for name in (*node.input, *node.output):
            if name in readers and all(_hides(reader, found) for reader in readers[name]):
                found.add(name)
    return found


def _hides(node: onnx.NodeProto, masks: set[str]) -> bool:
    moved = node.op_type in _MOVING and all(name in masks for name in node.output)
    return node.op_type in _HIDING or moved
