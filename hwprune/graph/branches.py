"""Residual branches that can be left out whole (layer removal, e.g. Veit et al. 2016)."""

import onnx_graphsurgeon as gs

from hwprune.graph.channels import Branch
from hwprune.graph.cost import node_macs, weight_input


def find_branches(graph: gs.Graph) -> tuple[Branch, ...]:
    """One branch per Add of two activations where a side holds layers that serve nothing else.

    Where both sides do, the one with more multiply-accumulates may go.
    """
    found = []
    outputs = {tensor.name for tensor in graph.outputs}
    place = {id(node): number for number, node in enumerate(graph.nodes)}
    for add in filter(_joins_activations, graph.nodes):
        sides = [(kept, _exclusive(add.inputs[1 - kept], outputs)) for kept in (0, 1)]
        kept, nodes = max(sides, key=lambda side: sum(map(node_macs, side[1])))
        movable = add.outputs[0].name not in outputs or bool(add.inputs[kept].inputs)
        if movable and any(weight_input(node) is not None for node in nodes):
            nodes.sort(key=lambda node: place[id(node)])
            names = tuple(node.name for node in nodes)
            found.append(Branch(add.name, add.name, kept, names))
    return tuple(found)


def _joins_activations(node: gs.Node) -> bool:
    if node.op != "Add" or node.inputs[0] is node.inputs[1]:
        return False
    first, second = node.inputs
    constant = isinstance(first, gs.Constant) or isinstance(second, gs.Constant)
    return not constant and list(first.shape) == list(second.shape)


def _exclusive(tensor: gs.Tensor, outputs: set[str]) -> list[gs.Node]:
    """The nodes nobody needs any more when one reader of `tensor` lets go of it."""
    uses: dict[int, int] = {}
    gone, released = [], [tensor]
    while released:
        for node in released.pop().inputs:
            uses[id(node)] = uses.get(id(node), _uses(node, outputs)) - 1
            if not uses[id(node)]:
                gone.append(node)
                released.extend(node.inputs)
    return gone


def _uses(node: gs.Node, outputs: set[str]) -> int:
    return sum(len(tensor.outputs) + (tensor.name in outputs) for tensor in node.outputs)
