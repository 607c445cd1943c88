"""What nobody reads is not computed: a place that is picked at the end is picked early on."""

from collections.abc import Callable
from math import prod

import numpy as np
import onnx_graphsurgeon as gs

from hwprune.graph.cost import weight_input
from hwprune.rewrites.edit import (
    detach,
    integers,
    is_constant,
    leaves,
    on_a_copy,
    producer,
    reads_alone,
)

_ALONE = frozenset({"Relu", "Clip", "Erf", "Gelu", "Tanh", "Sigmoid", "Exp", "Sqrt", "LeakyRelu"})
_BROADCASTING = frozenset({"Add", "Sub", "Mul", "Div"})
_ALONG_LAST = frozenset({"Softmax", "LogSoftmax", "LayerNormalization"})

Axes = dict[int, int]  # input of a node -> its axis that the picked axis of the output is


@on_a_copy
def pick_early(graph: gs.Graph) -> None:
    """Moves a Gather of one place up, past what computes every place by itself.

    A classifier that reads one token (ViT, BERT) needs neither the others' last MLP nor their last
    queries. Equal up to the rounding of products with fewer rows.

    Precondition: all readers of a tensor pick the same one place of it, and the operator that
    makes it (elementwise, a product along other axes, a normalisation along the last one,
    Transpose, Reshape) makes each place of its inputs' same place alone.
    """
    for node in [n for n in graph.nodes if _picks_one(n, graph)]:
        _keep_axis(graph, node)
    while sum(_moved(graph, tensor) for tensor in list(graph.tensors().values())):
        graph.cleanup()


def _picks_one(node: gs.Node, graph: gs.Graph) -> bool:
    if node.op != "Gather" or not reads_alone(node, node.inputs[0], graph):
        return False
    (data, place), maker = node.inputs, producer(node.inputs[0])
    if maker is None or not is_constant(place) or place.values.ndim:
        return False
    axis = node.attrs.get("axis", 0) % len(data.shape)
    return axis > 0 and _axes_before(maker, axis) is not None


def _keep_axis(graph: gs.Graph, node: gs.Node) -> None:
    """Gather of a place as Gather of a list of one, and a Squeeze."""
    (data, place), out = node.inputs, node.outputs[0]
    axis = node.attrs.get("axis", 0) % len(data.shape)
    detach(node)
    picked = _pick(graph, data, axis, int(place.values) % int(data.shape[axis]), node.name)
    axes = integers(f"{node.name}/axis", [axis])
    graph.nodes.append(gs.Node("Squeeze", f"{node.name}/squeeze", {}, [picked, axes], [out]))


def _pick(graph: gs.Graph, data: gs.Tensor, axis: int, place: int, name: str) -> gs.Tensor:
    """`data` with only one `place` along `axis`; of a constant the values."""
    if is_constant(data):
        return gs.Constant(f"{name}/{data.name}", np.take(data.values, [place], axis))
    shape = [1 if i == axis else size for i, size in enumerate(data.shape)]
    picked = gs.Variable(f"{name}/{data.name}", data.dtype, shape)
    indices = integers(f"{name}/{data.name}/place", [place])
    graph.nodes.append(
        gs.Node("Gather", f"{name}/{data.name}/pick", {"axis": axis}, [data, indices], [picked])
    )
    return picked


def _moved(graph: gs.Graph, tensor: gs.Tensor) -> bool:
    """Picks from the inputs of whatever makes `tensor` instead, if all its readers pick alike."""
    maker, readers = producer(tensor), list(tensor.outputs)
    if maker is None or leaves(tensor, graph) or not readers or len(maker.outputs) != 1:
        return False
    found = {_selection(node) for node in readers}
    selection = found.pop() if len(found) == 1 else None
    axes = _axes_before(maker, selection[0]) if selection else None
    if selection is None or axes is None:
        return False
    axis, place = selection
    inputs = [
        _pick(graph, t, axes[i], place, maker.name) if i in axes else t
        for i, t in enumerate(maker.inputs)
    ]
    if maker.op == "Reshape":
        shape = [1 if i == axis else int(size) for i, size in enumerate(tensor.shape)]
        inputs[1] = integers(f"{maker.name}/picked", shape)
    maker.inputs = inputs
    kept = readers[0].outputs[0]
    for node in readers[1:]:
        _hand_over(node.outputs[0], kept)
    for node in readers:
        detach(node)
    maker.outputs = [kept]
    return True


def _hand_over(old: gs.Tensor, new: gs.Tensor) -> None:
    for reader in list(old.outputs):
        reader.inputs = [new if tensor is old else tensor for tensor in reader.inputs]


def _selection(node: gs.Node) -> tuple[int, int] | None:
    """(axis, place) of a Gather of a list of one."""
    if (
        node.op != "Gather"
        or not is_constant(node.inputs[1])
        or node.inputs[1].values.shape != (1,)
    ):
        return None
    rank = len(node.inputs[0].shape)
    axis = node.attrs.get("axis", 0) % rank
    return axis, int(node.inputs[1].values[0]) % int(node.inputs[0].shape[axis])


def _axes_before(node: gs.Node, axis: int) -> Axes | None:
    """Where the picked axis of a node's output lies in its inputs; None if it cannot move up."""
    rule = _RULES.get(node.op)
    return rule(node, axis) if rule is not None and len(node.outputs) == 1 else None


def _alone(node: gs.Node, axis: int) -> Axes | None:
    return {0: axis}


def _broadcasting(node: gs.Node, axis: int) -> Axes | None:
    rank, found = len(node.outputs[0].shape), {}
    for i, tensor in enumerate(node.inputs):
        own = axis - rank + len(tensor.shape)
        if own >= 0 and tensor.shape[own] != 1:
            found[i] = own
    return found


def _along_last(node: gs.Node, axis: int) -> Axes | None:
    rank = len(node.inputs[0].shape)
    last = node.attrs.get("axis", -1) % rank == rank - 1
    return {0: axis} if last and axis < rank - 1 else None


def _product(node: gs.Node, axis: int) -> Axes | None:
    """Rows of a product are made of the same rows of its left side."""
    left, right = node.inputs
    rank = len(node.outputs[0].shape)
    if is_constant(left) or len(left.shape) != rank or axis != rank - 2:
        return None
    return {0: axis} if weight_input(node) == 1 or len(right.shape) == rank else None


def _transpose(node: gs.Node, axis: int) -> Axes | None:
    return {0: node.attrs["perm"][axis]} if "perm" in node.attrs else None


def _reshape(node: gs.Node, axis: int) -> Axes | None:
    """An axis that stays one: equally long, with as much in front of it, and never the first, which
    may hold the places of a whole batch.
    """
    before, after = node.inputs[0].shape, node.outputs[0].shape
    outer = prod(after[:axis])
    for own, size in enumerate(before):
        if own and size == after[axis] != 1 and prod(before[:own]) == outer:
            return {0: own}
    return None


_RULES: dict[str, Callable[[gs.Node, int], Axes | None]] = {
    **dict.fromkeys(_ALONE, _alone),
    **dict.fromkeys(_BROADCASTING, _broadcasting),
    **dict.fromkeys(_ALONG_LAST, _along_last),
    "MatMul": _product,
    "Transpose": _transpose,
    "Reshape": _reshape,
}
