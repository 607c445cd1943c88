"""The softmax of two classes as a sigmoid of their difference."""

import numpy as np
import onnx_graphsurgeon as gs

from hwprune.rewrites.edit import integers, on_a_copy


@on_a_copy
def softmax_pairs(graph: gs.Graph) -> None:
    """Writes Softmax over pairs as a Sigmoid: e^a / (e^a + e^b) = 1 / (1 + e^-(a - b)).

    A softmax has a maximum, a sum and a division for each of its rows; where rows are pairs (as
    many as a detector has boxes) that takes many times as long as operators that work on all of
    them at once. Equal up to rounding.

    Precondition: the last axis is normalised over, and has length 2.
    """
    for node in [node for node in graph.nodes if _is_of_pairs(node)]:
        data, name = node.inputs[0], node.name
        ends = [integers(f"{name}/{role}", [value]) for role, value in _REVERSAL.items()]
        swapped, apart = (
            gs.Variable(f"{name}/{role}", data.dtype, data.shape) for role in ("swapped", "apart")
        )
        graph.nodes.append(gs.Node("Slice", f"{name}/swap", {}, [data, *ends], [swapped]))
        graph.nodes.append(gs.Node("Sub", f"{name}/difference", {}, [data, swapped], [apart]))
        node.op, node.attrs, node.inputs = "Sigmoid", {}, [apart]


_REVERSAL = {"start": -1, "end": -(1 << 31), "axis": -1, "step": -1}


def _is_of_pairs(node: gs.Node) -> bool:
    if node.op != "Softmax" or node.inputs[0].dtype != np.float32:
        return False
    shape = list(node.inputs[0].shape)
    last = node.attrs.get("axis", -1) % len(shape) == len(shape) - 1
    return bool(len(shape) > 1 and last and shape[-1] == 2)
