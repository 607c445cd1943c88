"""Transposes of transposes, as what converters put around a layer leaves them."""

import onnx_graphsurgeon as gs

from hwprune.graph.tidy import bypass
from hwprune.rewrites.edit import on_a_copy, producer, reads_alone


@on_a_copy
def join_transposes(graph: gs.Graph) -> None:
    """Writes two Transposes in a row as one, or as none where they cancel; equal bit for bit.

    Precondition: nobody else reads what is between them.
    """
    for node in [node for node in graph.nodes if node.op == "Transpose"]:
        first = producer(node.inputs[0])
        if first is None or first.op != "Transpose":
            continue
        if not reads_alone(node, node.inputs[0], graph):
            continue
        inner = _order(first)
        order = [inner[axis] for axis in _order(node)]
        node.inputs[0], node.attrs["perm"] = first.inputs[0], order
        if order == sorted(order):
            bypass(graph, node)


def _order(node: gs.Node) -> list[int]:
    rank = len(node.inputs[0].shape)
    return list(node.attrs.get("perm", range(rank)[::-1]))
