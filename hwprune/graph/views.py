"""Gathers that only view a tensor in another order, as plain Reshape and Transpose.

torch writes `as_strided` (within its global pooling, among others) as a Gather from the flattened
tensor with an index for every element; which channel goes where cannot be read off that.
"""

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def replace_views(graph: gs.Graph) -> None:
    """Replaces every Gather that permutes the elements of a vector by strides, in place.

    A GatherND that picks along the first axis alone becomes a Gather.
    """
    for node in [n for n in graph.nodes if n.op == "GatherND"]:
        _simplify(node)
    for node in [n for n in graph.nodes if n.op == "Gather"]:
        source, indices = node.inputs
        if len(source.shape or ()) != 1 or not isinstance(indices, gs.Constant):
            continue
        if (order := stride_order(np.asarray(indices.values), int(source.shape[0]))) is not None:
            _replace(graph, node, order)


def stride_order(indices: Indices, size: int) -> tuple[int, ...] | None:
    """The axes of `indices` from the slowest to the fastest in a vector of `size` elements.

    None where they are no strided order that has each of the elements once.
    """
    if indices.size != size or indices.ndim == 0 or size == 0:
        return None
    strides = [
        int(np.take(indices, 1, axis).flat[0] - indices.flat[0]) if length > 1 else size
        for axis, length in enumerate(indices.shape)
    ]
    order = tuple(sorted(range(indices.ndim), key=lambda axis: -strides[axis]))
    dense = np.arange(size).reshape([indices.shape[axis] for axis in order])
    same = np.array_equal(indices, dense.transpose(np.argsort(order)))
    return order if same else None


def _simplify(node: gs.Node) -> None:
    source, indices = node.inputs
    if not isinstance(indices, gs.Constant) or node.attrs.get("batch_dims", 0):
        return
    if indices.values.shape[-1] == 1:
        places = indices.values[..., 0] % int(source.shape[0])
        node.op, node.attrs = "Gather", {"axis": 0}
        node.inputs[1] = gs.Constant(f"{node.name}.places", places)


def _replace(graph: gs.Graph, node: gs.Node, order: tuple[int, ...]) -> None:
    (source, indices), out = node.inputs, node.outputs[0]
    node.inputs.clear()
    node.outputs.clear()
    shape = [indices.values.shape[axis] for axis in order]
    target = gs.Constant(f"{node.name}.shape", np.array(shape, np.int64))
    if order == tuple(sorted(order)):
        graph.nodes.append(gs.Node("Reshape", node.name, {}, [source, target], [out]))
        return
    stored = gs.Variable(f"{node.name}.stored", out.dtype, shape)
    graph.nodes.append(gs.Node("Reshape", node.name, {}, [source, target], [stored]))
    perm = {"perm": [int(axis) for axis in np.argsort(order)]}
    graph.nodes.append(gs.Node("Transpose", f"{node.name}.order", perm, [stored], [out]))
