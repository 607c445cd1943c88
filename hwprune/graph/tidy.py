"""Names and leftovers: what the canonical form promises beyond folding."""

from collections.abc import Iterator

import numpy as np
import onnx
import onnx_graphsurgeon as gs

_TRANSPARENT = ("Identity", "Dropout")


def name_nodes(model: onnx.ModelProto) -> None:
    """Gives every node a unique name, in place; given unique names stay."""
    taken: set[str] = set()
    for node in model.graph.node:
        name = node.name or f"{node.op_type}_{next(iter(node.output), '')}"
        node.name = next(n for n in _candidates(name) if n not in taken)
        taken.add(node.name)


def tidy(graph: gs.Graph) -> None:
    """Removes Identity and Dropout, and puts all values into memory, in place."""
    for node in [node for node in graph.nodes if node.op in _TRANSPARENT]:
        if _is_training(node):
            continue
        _bypass(graph, node)
    graph.cleanup().toposort()
    for tensor in graph.tensors().values():
        if isinstance(tensor, gs.Constant):
            tensor.values = np.array(tensor.values)


def _candidates(name: str) -> Iterator[str]:
    yield name
    number = 1
    while True:
        yield f"{name}_{number}"
        number += 1


def _is_training(node: gs.Node) -> bool:
    mode = node.inputs[2] if node.op == "Dropout" and len(node.inputs) > 2 else None
    mask_used = len(node.outputs) > 1 and bool(node.outputs[1].outputs)
    return mask_used or (isinstance(mode, gs.Constant) and bool(mode.values))


def _bypass(graph: gs.Graph, node: gs.Node) -> None:
    """Connects a node's consumers to its input; a graph output keeps its name."""
    source, out = node.inputs[0], node.outputs[0]
    if any(out is tensor for tensor in graph.outputs):
        movable = source.inputs and not any(source is tensor for tensor in graph.outputs)
        if not movable:
            return
        producer = source.inputs[0]
        node.outputs.clear()
        producer.outputs[next(i for i, t in enumerate(producer.outputs) if t is source)] = out
        source, out = out, source
    node.inputs.clear()
    node.outputs.clear()
    for consumer in list(out.outputs):
        consumer.inputs = [source if tensor is out else tensor for tensor in consumer.inputs]
