"""The one table: ONNX operator -> torch; what is not in it is left to onnxruntime."""

import onnx_graphsurgeon as gs

from hwprune.errors import UnsupportedModelError
from hwprune.network.call import Call, Operator, unsupported
from hwprune.network.elementwise import ELEMENTWISE
from hwprune.network.layers import LAYERS
from hwprune.network.pooling import POOLING
from hwprune.network.resizing import RESIZING
from hwprune.network.shaping import SHAPING

OPERATORS: dict[str, Operator] = LAYERS | ELEMENTWISE | POOLING | SHAPING | RESIZING


def supported_ops() -> frozenset[str]:
    """Names of the ONNX operators that can be compiled."""
    return frozenset(OPERATORS)


def translate(node: gs.Node) -> Call:
    """The torch call for a node. Raises UnsupportedModelError naming node and operator."""
    if node.op not in OPERATORS:
        raise unsupported(node, "this operator has no torch twin")
    return OPERATORS[node.op](node)


def untranslated(graph: gs.Graph) -> dict[str, str]:
    """The nodes that onnxruntime has to run inside the twin, and why."""
    found = {}
    for node in graph.nodes:
        try:
            translate(node)
        except UnsupportedModelError as error:
            found[node.name] = str(error)
    return found
