"""Large weights, kept apart while editors that copy everything several times work on the rest.

To them such a weight is one more input: its type and shape are known, its values are not needed.
"""

from collections import Counter
from collections.abc import Container, Iterable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from hwprune.errors import ModelError
from hwprune.graph.proto import subgraphs

LARGE = 1 << 14  # elements
MAX_ELEMENTS = 1 << 28  # of one tensor: about 1 GiB of fp32
_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)

Weights = dict[str, NDArray[Any]]


def separable(model: onnx.ModelProto) -> set[str]:
    """The large initializers that nothing is computed from beforehand.

    Every node that reads one also reads what depends on the network's inputs, so that no constant
    folding needs its values. None where functions or branches hide who reads what.
    """
    if model.functions or any(subgraphs(node) for node in model.graph.node):
        return set()
    graph = model.graph
    times = Counter(t.name for t in graph.initializer)
    found = {t.name for t in graph.initializer if _is_large(t) and times[t.name] == 1}
    fixed, read = set(times), set()
    for node in graph.node:
        given = {name for name in node.input if name}
        if given <= fixed:
            fixed |= set(node.output)
            found -= given
        read |= given
    return (found & read) - {value.name for value in graph.output}


def set_aside(
    model: onnx.ModelProto, names: Container[str], weights: Weights
) -> tuple[onnx.ModelProto, Weights]:
    """A copy in which initializers are inputs, and their values: of `weights`, or the model's own.

    Raises ModelError where values do not fit their shape.
    """
    apart = [tensor for tensor in model.graph.initializer if tensor.name in names]
    found = {t.name: weights[t.name] if t.name in weights else _values(t) for t in apart}
    copy = onnx.ModelProto()
    _copy(model, copy, {"graph"})
    _copy(model.graph, copy.graph, {"initializer", "input"})
    copy.graph.initializer.extend(t for t in model.graph.initializer if t.name not in found)
    copy.graph.input.extend(value for value in model.graph.input if value.name not in found)
    copy.graph.input.extend(_inputs(apart))
    return copy, found


def put_back(graph: gs.Graph, weights: Weights) -> None:
    """Makes the inputs that stand for weights constants again, in place; `weights` is used up."""
    for tensor in [tensor for tensor in graph.inputs if tensor.name in weights]:
        graph.inputs.remove(tensor)
        tensor.to_constant(weights.pop(tensor.name))


def as_array(tensor: onnx.TensorProto, data: bytes) -> NDArray[Any]:
    """The values of a tensor whose bytes lie elsewhere. Raises ModelError if they do not fit."""
    kind = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)).newbyteorder("<")
    if len(data) != prod(tensor.dims) * kind.itemsize:
        raise ModelError(
            f"weight {tensor.name!r} has {len(data)} bytes, its shape {list(tensor.dims)} needs "
            f"{prod(tensor.dims) * kind.itemsize}"
        )
    return np.frombuffer(data, kind).reshape(tuple(tensor.dims))


def write_apart(graph: gs.Graph, path: Path) -> onnx.ModelProto:
    """Writes the large weights into a file; the model of all the rest. Uses the graph up."""
    tensors = [tensor for tensor in graph.tensors().values() if _is_apart(tensor)]
    with path.open("wb") as file:
        for tensor in tensors:
            np.save(file, tensor.values, allow_pickle=False)
            tensor.to_variable(tensor.dtype, tensor.shape)
            tensor.type = "tensor_type"  # which the call leaves out, and the export asks for
            graph.inputs.append(tensor)
    model: onnx.ModelProto = gs.export_onnx(graph)
    return model


def read_apart(model: onnx.ModelProto, path: Path) -> gs.Graph:
    """What `write_apart` took apart: the file holds the last inputs, in their order."""
    graph, arrays = gs.import_onnx(model), []
    with path.open("rb") as file:
        while file.peek(1):
            arrays.append(np.load(file, allow_pickle=False))
    names = [tensor.name for tensor in graph.inputs[len(graph.inputs) - len(arrays) :]]
    put_back(graph, dict(zip(names, arrays, strict=True)))
    return graph


def _is_large(tensor: onnx.TensorProto) -> bool:
    plausible = all(size > 0 for size in tensor.dims)
    return tensor.data_type in _FLOATS and plausible and LARGE <= prod(tensor.dims) <= MAX_ELEMENTS


def _is_apart(tensor: gs.Tensor) -> bool:
    return (
        isinstance(tensor, gs.Constant)
        and np.issubdtype(tensor.dtype, np.floating)
        and prod(tensor.shape) >= LARGE
        and bool(tensor.outputs)
    )


def _values(tensor: onnx.TensorProto) -> NDArray[Any]:
    return np.asarray(onnx.numpy_helper.to_array(tensor))


def _inputs(tensors: Iterable[onnx.TensorProto]) -> Iterable[onnx.ValueInfoProto]:
    return (onnx.helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in tensors)


def _copy(source: Any, target: Any, without: Container[str]) -> None:
    """All fields of a message but some."""
    for field, value in source.ListFields():
        if field.name in without:
            continue
        if hasattr(value, "extend"):
            getattr(target, field.name).extend(value)
        elif hasattr(value, "CopyFrom"):
            getattr(target, field.name).CopyFrom(value)
        else:
            setattr(target, field.name, value)
