"""Rectifiers behind what only moves or selects values, where no layer can take them in."""

import onnx_graphsurgeon as gs

from hwprune.graph.tidy import bypass
from hwprune.rewrites.edit import is_constant, on_a_copy, producer, reads_alone

_RECTIFIERS = frozenset({"Relu", "Clip"})
_PASSING = frozenset({"MaxPool", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze"})
_FUSING = frozenset({"Conv", "ConvTranspose", "Gemm", "Add"})


@on_a_copy
def lift_rectifiers(graph: gs.Graph) -> None:
    """Moves a Relu or Clip up to the layer in front, which a runtime computes it with.

    It never falls, so the largest of rectified values is the rectified largest one; what moves
    values changes none. Equal bit for bit.

    Precondition: between the layer and the rectifier, whose bounds are known, there are only
    MaxPool, Transpose and Reshape, and nobody else reads in between.
    """
    for node in [node for node in graph.nodes if node.op in _RECTIFIERS]:
        first = _first_passing(node, graph)
        if first is None:
            continue
        source = first.inputs[0]
        rectified = gs.Variable(f"{node.name}/lifted", source.dtype, source.shape)
        attributes, bounds = dict(node.attrs), list(node.inputs[1:])
        bypass(graph, node)
        lifted = gs.Node(node.op, node.name, attributes, [source, *bounds], [rectified])
        first.inputs[0] = rectified
        graph.nodes.append(lifted)


def _first_passing(node: gs.Node, graph: gs.Graph) -> gs.Node | None:
    """The first of the nodes between a layer and the rectifier; None where it has to stay."""
    if not all(is_constant(tensor) for tensor in node.inputs[1:] if tensor.name):
        return None
    reader, maker = node, producer(node.inputs[0])
    while maker is not None and reads_alone(reader, reader.inputs[0], graph):
        if maker.op in _FUSING:
            return reader if reader is not node else None
        if maker.op not in _PASSING or len(maker.outputs) != 1:
            return None
        reader, maker = maker, producer(maker.inputs[0])
    return None
