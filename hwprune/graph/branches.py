"""Residual branches that can be left out whole (layer removal, e.g. Veit et al. 2016)."""

import onnx_graphsurgeon as gs

from hwprune.graph.channels import Branch
from hwprune.graph.cost import node_macs, weight_input


def find_branches(graph: gs.Graph) -> tuple[Branch, ...]:
    """One branch per Add of two activations where a side holds layers that serve nothing else."""
    found = []
    outputs = {tensor.name for tensor in graph.outputs}
    for add in graph.nodes:
        if _joins_activations(add):
            sides = [_side(graph, add, kept) for kept in (0, 1)]
            best = max(sides, key=lambda side: sum(map(node_macs, side[1])))
            kept, nodes = best
            movable = add.outputs[0].name not in outputs or bool(add.inputs[kept].inputs)
            if movable and any(weight_input(node) is not None for node in nodes):
                names = tuple(node.name for node in nodes)
                found.append(Branch(add.name, add.name, kept, names))
    return tuple(found)


def _joins_activations(node: gs.Node) -> bool:
    if node.op != "Add" or node.inputs[0] is node.inputs[1]:
        return False
    first, second = node.inputs
    constant = isinstance(first, gs.Constant) or isinstance(second, gs.Constant)
    return not constant and list(first.shape) == list(second.shape)


def _side(graph: gs.Graph, add: gs.Node, kept: int) -> tuple[int, list[gs.Node]]:
    """The nodes that serve no graph output any more once `add` yields input `kept` only."""
    live: set[int] = set()
    waiting = [node for tensor in graph.outputs for node in tensor.inputs]
    while waiting:
        node = waiting.pop()
        if id(node) in live:
            continue
        live.add(id(node))
        read = [node.inputs[kept]] if node is add else list(node.inputs)
        waiting.extend(producer for tensor in read for producer in tensor.inputs)
    return kept, [node for node in graph.nodes if id(node) not in live]
