"""Names and leftovers: what the canonical form promises beyond folding."""

from itertools import chain, count

import numpy as np
import onnx
import onnx_graphsurgeon as gs

_TRANSPARENT = ("Identity", "Dropout")
_BROADCASTING = frozenset(
    {"Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min"}
    | {"Mod", "Mul", "Or", "Pow", "Sub", "Sum", "Where", "Xor"}
)
_NEUTRAL = {"Add": 0.0, "Sub": 0.0, "Mul": 1.0, "Div": 1.0}


def name_nodes(model: onnx.ModelProto) -> None:
    """Gives every node a unique name, and its first output one, in place; given names stay.

    A recurrent layer whose last state alone is read leaves its first output out.
    """
    taken: set[str] = set()
    tensors = {t for node in model.graph.node for t in (*node.input, *node.output)}
    for node in model.graph.node:
        name = node.name or f"{node.op_type}_{next(filter(None, node.output), '')}"
        node.name = unique(name, taken)
        taken.add(node.name)
        if node.output and not node.output[0]:
            node.output[0] = unique(f"{node.name}_output", tensors)
            tensors.add(node.output[0])


def tidy(graph: gs.Graph) -> None:
    """Removes what changes nothing, and puts all values into memory, in place."""
    for node in [n for n in graph.nodes if n.op == "Expand"]:
        _unexpand(node)
    for node in list(graph.nodes):
        if (kept := _passed(node)) is not None:
            bypass(graph, node, kept)
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


def _unexpand(node: gs.Node) -> None:
    """Elementwise readers of an Expand read what it expands, if they would expand it themselves.

    Channels that stand beside the expanded tensor would seem to meet fixed ones.
    """
    source, expanded = node.inputs[0], node.outputs[0]
    for reader in list(expanded.outputs):
        if reader.op not in _BROADCASTING:
            continue
        inputs = [source if t is expanded else t for t in reader.inputs]
        shapes = [tuple(t.shape) for t in inputs]
        if list(np.broadcast_shapes(*shapes)) == list(reader.outputs[0].shape):
            reader.inputs = inputs


def _passed(node: gs.Node) -> int | None:
    """The input that the node hands on as it is, if there is one."""
    if node.op in _TRANSPARENT:
        return None if _is_training(node) else 0
    kept = None
    if node.op == "Transpose":
        perm = list(node.attrs.get("perm", [-1]))
        return 0 if perm == list(range(len(perm))) else None
    if node.op == "Where" and isinstance(node.inputs[0], gs.Constant):
        chosen = np.unique(node.inputs[0].values)
        kept = None if len(chosen) > 1 else 1 if chosen.all() else 2
    elif node.op in _NEUTRAL:
        first, second = (_is_single(t, _NEUTRAL[node.op]) for t in node.inputs)
        kept = 0 if second else 1 if first and node.op in ("Add", "Mul") else None
    same = kept is not None and node.inputs[kept].shape == node.outputs[0].shape
    return kept if same and not isinstance(node.inputs[kept], gs.Constant) else None


def _is_single(tensor: gs.Tensor, value: float) -> bool:
    """A constant of one element: larger ones may be weights that are still to be trained."""
    return isinstance(tensor, gs.Constant) and bool(
        tensor.values.size == 1 and tensor.values.item() == value
    )


def _is_training(node: gs.Node) -> bool:
    mode = node.inputs[2] if node.op == "Dropout" and len(node.inputs) > 2 else None
    mask_used = len(node.outputs) > 1 and bool(node.outputs[1].outputs)
    return mask_used or (isinstance(mode, gs.Constant) and bool(mode.values))


def _rewire(consumers: list[gs.Node], old: gs.Tensor, new: gs.Tensor) -> None:
    for consumer in consumers:
        consumer.inputs = [new if tensor is old else tensor for tensor in consumer.inputs]
