"""Slices of a concatenation: what they take was a tensor of its own before it was joined."""

import onnx_graphsurgeon as gs

from hwprune.graph.movement import channel_slice
from hwprune.graph.tidy import bypass
from hwprune.rewrites.edit import leaves, on_a_copy, producer


@on_a_copy
def read_parts(graph: gs.Graph) -> None:
    """Lets the readers of a Slice read the part of a Concat that it takes; equal bit for bit.

    Precondition: along the axis of the Concat it takes exactly one of the joined tensors, along
    all other axes everything. The Concat goes where nobody else reads it.
    """
    for node in [n for n in graph.nodes if n.op == "Slice" and not leaves(n.outputs[0], graph)]:
        if (part := _part(node)) is not None:
            node.inputs[0] = part
            bypass(graph, node)


def _part(node: gs.Node) -> gs.Tensor | None:
    """The joined tensor that a Slice takes."""
    joined = node.inputs[0]
    concat = producer(joined)
    if concat is None or concat.op != "Concat":
        return None
    own = concat.attrs["axis"] % len(joined.shape)
    windows = [channel_slice(node, axis) for axis in range(len(joined.shape))]
    window = windows.pop(own)
    if window is None or any(other != slice(None) for other in windows):
        return None
    start, stop, _ = window.indices(int(joined.shape[own]))
    begin = 0
    for part in concat.inputs:
        end = begin + int(part.shape[own])
        if (begin, end) == (start, stop):
            return part
        begin = end
    return None
