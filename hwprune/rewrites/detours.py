"""Reshapes in front of and behind an operator that works along the last axis alone."""

import onnx_graphsurgeon as gs

from hwprune.graph.tidy import bypass
from hwprune.rewrites.edit import on_a_copy, only_reader, producer, reads_alone

_RESHAPES = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze"})
_ALONG_LAST = frozenset({"Softmax", "LogSoftmax", "LayerNormalization"})


@on_a_copy
def drop_detours(graph: gs.Graph) -> None:
    """Lets a Softmax or LayerNormalization over the last axis work on the shape that is there.

    Files of old opsets flatten what they normalise and reshape it back; so does what converts
    them. Equal bit for bit.

    Precondition: the reshape in front keeps the last axis, the one behind restores the shape, and
    nobody else reads what is between them.
    """
    for node in [node for node in graph.nodes if node.op in _ALONG_LAST]:
        before, after = producer(node.inputs[0]), only_reader(node.outputs[0], graph)
        if before is None or after is None or not _along_last(node):
            continue
        if _undoes(before, node, after, graph):
            shape = list(before.inputs[0].shape)
            node.inputs[0], node.attrs["axis"] = before.inputs[0], len(shape) - 1
            node.outputs[0].shape = shape
            bypass(graph, after)


def _along_last(node: gs.Node) -> bool:
    rank = len(node.inputs[0].shape)
    return bool(node.attrs.get("axis", -1) % rank == rank - 1)


def _undoes(before: gs.Node, node: gs.Node, after: gs.Node, graph: gs.Graph) -> bool:
    if not {before.op, after.op} <= _RESHAPES or after.inputs[0] is not node.outputs[0]:
        return False
    if not reads_alone(node, node.inputs[0], graph):
        return False
    source, between, result = before.inputs[0], node.inputs[0], after.outputs[0]
    restored = list(source.shape) == list(result.shape)
    return restored and len(source.shape) > 0 and source.shape[-1] == between.shape[-1]
