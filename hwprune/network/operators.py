"""The one table: ONNX operator -> torch."""

import onnx_graphsurgeon as gs

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
        raise unsupported(node, "this operator is not supported")
    return OPERATORS[node.op](node)
