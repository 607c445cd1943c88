"""Masks that hide nothing, and guards against what cannot happen: exported attention."""

import numpy as np
import onnx_graphsurgeon as gs

from hwprune.graph.tidy import bypass
from hwprune.rewrites.edit import is_constant, on_a_copy, producer

_CARRIES = frozenset({"Add", "Where", "Mul", "Div", "Sub", "Cast"} | {"Reshape", "Transpose"})
_CARRIES |= {"Squeeze", "Unsqueeze", "Expand", "Slice", "Concat", "Gather", "Min", "Max"}
_COMPUTES = frozenset({"Conv", "Gemm", "MatMul", "LayerNormalization", "Relu", "Softmax", "Einsum"})


@on_a_copy
def drop_guards(graph: gs.Graph) -> None:
    """Leaves out the Add of a mask of zeros, and what replaces the NaN of a Softmax.

    A Softmax gives NaN where all of a row is minus infinity, as everything being masked would make
    it; attention exported from PyTorch asks for that at every element. Equal bit for bit, as long
    as the network's own values are finite.

    Precondition: no constant that reaches the Softmax through additions, choices and movement holds
    anything that is not finite. Masks with as many values as there are weights to train stay: they
    have the shape of a bias.
    """
    for node in [node for node in graph.nodes if node.op == "Add"]:
        _drop_mask(graph, node)
    for node in [node for node in graph.nodes if node.op == "Where"]:
        guarded = _guarded(node)
        if guarded is not None and not _may_be_masked(guarded.inputs[0]):
            bypass(graph, node, 2)


def _drop_mask(graph: gs.Graph, add: gs.Node) -> None:
    for i, mask in enumerate(add.inputs):
        if not is_constant(mask) or is_constant(add.inputs[1 - i]) or len(mask.shape) < 3:
            continue
        same = list(add.inputs[1 - i].shape) == list(add.outputs[0].shape)
        if same and not np.any(mask.values):
            bypass(graph, add, 1 - i)
            return


def _guarded(where: gs.Node) -> gs.Node | None:
    """The Softmax whose NaN the node replaces."""
    asks = producer(where.inputs[0])
    if asks is None or asks.op != "IsNaN" or not is_constant(where.inputs[1]):
        return None
    if asks.inputs[0] is not where.inputs[2]:
        return None
    softmax = producer(where.inputs[2])
    return softmax if softmax is not None and softmax.op == "Softmax" else None


def _may_be_masked(tensor: gs.Tensor) -> bool:
    """Whether a whole row of it may be minus infinity though all activations are finite."""
    if is_constant(tensor):
        return not bool(np.isfinite(tensor.values).all()) if tensor.dtype != bool else False
    node = producer(tensor)
    if node is None:
        return True  # an input may be a mask of its own
    if node.op not in _CARRIES:
        return node.op not in _COMPUTES
    return any(_may_be_masked(t) for t in node.inputs if t.name and t.dtype != np.int64)
