"""Names and leftovers: what the canonical form promises beyond folding."""

from itertools import chain, count

import numpy as np
import onnx
import onnx_graphsurgeon as gs

_TRANSPARENT = ("Identity", "Dropout")


def name_nodes(model: onnx.ModelProto) -> None:
    """Gives every node a unique name, in place; given unique names stay."""
    taken: set[str] = set()
    for node in model.graph.node:
        name = node.name or f"{node.op_type}_{next(iter(node.output), '')}"
        node.name = unique(name, taken)
        taken.add(node.name)


def tidy(graph: gs.Graph) -> None:
    """Removes Identity and Dropout, and puts all values into memory, in place."""
    for node in [node for node in graph.nodes if node.op in _TRANSPARENT]:
        if _is_training(node):
            continue
        bypass(graph, node)
    graph.cleanup().toposort()
    for tensor in graph.tensors().values():
        if isinstance(tensor, gs.Constant):
            tensor.values = np.require(tensor.values, requirements=["C", "W"])


def bypass(graph: gs.Graph, node: gs.Node, kept_input: int = 0) -> None:
    """Connects the consumers of a node to one of its inputs, in place.

    A graph output keeps its name: the producer of the input then writes it. Where that cannot be
    (a graph input that is an output, one tensor under two output names) the node stays.
    """
    source, out = node.inputs[kept_input], node.outputs[0]
    if any(out is tensor for tensor in graph.outputs):
        if not source.inputs or any(source is tensor for tensor in graph.outputs):
            return
        producer, consumers = source.inputs[0], list(source.outputs)
        node.outputs.clear()
        producer.outputs = [out if tensor is source else tensor for tensor in producer.outputs]
        _rewire(consumers, source, out)
    else:
        consumers = list(out.outputs)
        node.outputs.clear()
        _rewire(consumers, out, source)
    node.inputs.clear()


def unique(name: str, taken: set[str]) -> str:
    """`name`, or `name.1`, `name.2` ... if it is taken."""
    numbered = (f"{name}.{number}" for number in count(1))
    return next(candidate for candidate in chain([name], numbered) if candidate not in taken)


def _is_training(node: gs.Node) -> bool:
    mode = node.inputs[2] if node.op == "Dropout" and len(node.inputs) > 2 else None
    mask_used = len(node.outputs) > 1 and bool(node.outputs[1].outputs)
    return mask_used or (isinstance(mode, gs.Constant) and bool(mode.values))


def _rewire(consumers: list[gs.Node], old: gs.Tensor, new: gs.Tensor) -> None:
    for consumer in consumers:
        consumer.inputs = [new if tensor is old else tensor for tensor in consumer.inputs]
