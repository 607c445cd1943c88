"""Queries, keys and values that one product makes: cut apart as blocks of heads."""

import onnx_graphsurgeon as gs

from hwprune.rewrites.edit import detach, integers, is_constant, leaves, on_a_copy, producer


@on_a_copy
def split_heads(graph: gs.Graph) -> None:
    """Writes Reshape, Transpose and a Gather for each of k as Reshape, Transpose and Split.

    The usual attention makes an axis for queries, keys and values beside that of the heads, moves
    it to the front and picks from it. The two axes lie side by side in memory, so that they can
    stay one of k * h heads, of which the Split takes h at a time: fewer axes to move, and no axis
    to be removed again. Equal bit for bit.

    Precondition: the axis that is picked from stands in front of another one when it is made, and
    each of its places is picked once.
    """
    for node in [node for node in graph.nodes if node.op == "Transpose"]:
        picks = _picks(node, graph)
        if picks:
            _replace(graph, node, picks)


def _picks(transpose: gs.Node, graph: gs.Graph) -> list[gs.Node]:
    """The Gathers behind it by the place that they take, if they are all that reads it."""
    tensor, reshape = transpose.outputs[0], producer(transpose.inputs[0])
    if reshape is None or reshape.op != "Reshape" or not is_constant(reshape.inputs[1]):
        return []
    if leaves(tensor, graph) or leaves(transpose.inputs[0], graph):
        return []
    if len(transpose.inputs[0].outputs) != 1 or not all(_picks_one(n) for n in tensor.outputs):
        return []
    axes = {n.attrs.get("axis", 0) % len(tensor.shape) for n in tensor.outputs}
    if len(axes) != 1:
        return []
    axis = axes.pop()
    count, made = int(tensor.shape[axis]), transpose.attrs["perm"][axis]
    by_place = {int(node.inputs[1].values) % count: node for node in tensor.outputs}
    complete = len(tensor.outputs) == len(by_place) == count
    return [by_place[i] for i in range(count)] if complete and made + 1 < len(tensor.shape) else []


def _picks_one(node: gs.Node) -> bool:
    return node.op == "Gather" and is_constant(node.inputs[1]) and node.inputs[1].values.ndim == 0


def _replace(graph: gs.Graph, transpose: gs.Node, picks: list[gs.Node]) -> None:
    tensor, reshape = transpose.outputs[0], transpose.inputs[0].inputs[0]
    axis = picks[0].attrs.get("axis", 0) % len(tensor.shape)
    perm = list(transpose.attrs["perm"])
    stacked = perm.pop(axis)
    shape = [int(size) for size in reshape.outputs[0].shape]
    shape[stacked : stacked + 2] = [shape[stacked] * shape[stacked + 1]]
    perm = [place - (place > stacked) for place in perm]
    reshape.inputs[1] = integers(f"{reshape.name}/heads", shape)
    reshape.outputs[0].shape = shape
    transpose.attrs["perm"] = perm
    tensor.shape = [shape[place] for place in perm]
    own = perm.index(stacked)
    sizes = integers(f"{transpose.name}/sizes", [shape[stacked] // len(picks)] * len(picks))
    outputs = [pick.outputs[0] for pick in picks]
    for pick in picks:
        detach(pick)
    name = f"{transpose.name}/split"
    graph.nodes.append(gs.Node("Split", name, {"axis": own}, [tensor, sizes], outputs))
