"""Layers that read the same tensor, as one layer and a Split."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from hwprune.graph.matrix import bias_behind, is_plain
from hwprune.rewrites.edit import detach, integers, is_constant, on_a_copy


@on_a_copy
def join_siblings(graph: gs.Graph) -> None:
    """Computes products, or convolutions of one geometry, that read one tensor at once.

    Queries, keys and values of an attention, and the branches of an Inception module, then are one
    larger product, which a runtime may compute faster than several small ones. The parts are cut
    apart at once, so that each keeps channels of its own. Equal up to the order of summation.

    Precondition: weights are constants that nobody else reads, and all have a bias or none has.
    """
    for tensor in list(graph.tensors().values()):
        for siblings in _families(tensor, graph):
            _join(graph, siblings)


def _families(tensor: gs.Tensor, graph: gs.Graph) -> list[list[gs.Node]]:
    """Two or more layers each that can be one."""
    found: dict[Any, list[gs.Node]] = {}
    for node in tensor.outputs:
        if node.inputs[0] is tensor and (kind := _kind(node, graph)) is not None:
            found.setdefault(kind, []).append(node)
    return [nodes for nodes in found.values() if len(nodes) > 1]


def _kind(node: gs.Node, graph: gs.Graph) -> Any:
    """What siblings must have in common; None for what cannot be one."""
    biased = len(node.inputs) > 2 and bool(node.inputs[2].name)
    if node.op == "Conv":
        constant = all(is_constant(t) and len(t.outputs) == 1 for t in node.inputs[1:] if t.name)
        if not constant or node.attrs.get("group", 1) != 1:
            return None
        return node.op, biased, tuple(node.inputs[1].shape[1:]), _listed(node.attrs)
    if not is_plain(node):
        return None
    return node.op, biased, bias_behind(node, graph) is not None, _listed(node.attrs)


def _listed(attributes: dict[str, Any]) -> str:
    return str(sorted((name, np.asarray(v).tolist()) for name, v in attributes.items()))


def _join(graph: gs.Graph, siblings: Sequence[gs.Node]) -> None:
    first = siblings[0]
    conv = first.op == "Conv"
    name = f"{first.name}/siblings"
    axis = 1 if conv else len(first.outputs[0].shape) - 1
    across = 0 if conv or first.attrs.get("transB", 0) else 1
    adds = [bias_behind(node, graph) for node in siblings]
    inputs = [first.inputs[0], _joined(f"{name}/weight", siblings, 1, across)]
    if len(first.inputs) > 2 and first.inputs[2].name:
        inputs.append(_joined(f"{name}/bias", siblings, 2, 0))
    ends = [(add or node).outputs[0] for node, add in zip(siblings, adds, strict=True)]
    sizes = [int(t.shape[axis]) for t in ends]
    shape = list(ends[0].shape)
    shape[axis] = sum(sizes)
    out = gs.Variable(f"{name}/product", ends[0].dtype, shape)
    graph.nodes.append(gs.Node(first.op, name, dict(first.attrs), inputs, [out]))
    if adds[0] is not None:
        vectors = [next(t for t in add.inputs if is_constant(t)) for add in adds if add]
        bias = gs.Constant(f"{name}/bias", np.concatenate([v.values for v in vectors]))
        total = gs.Variable(f"{name}/sum", ends[0].dtype, shape)
        graph.nodes.append(gs.Node("Add", f"{name}/add", {}, [out, bias], [total]))
        out = total
    for node in (*siblings, *(add for add in adds if add)):
        detach(node)
    parts = [out, integers(f"{name}/sizes", sizes)]
    graph.nodes.append(gs.Node("Split", f"{name}/split", {"axis": axis}, parts, ends))


def _joined(name: str, siblings: Sequence[gs.Node], place: int, axis: int) -> gs.Constant:
    values = [node.inputs[place].values for node in siblings]
    if place == 2:
        values = [v.reshape(-1) for v in values]
    return gs.Constant(name, np.ascontiguousarray(np.concatenate(values, axis)))
