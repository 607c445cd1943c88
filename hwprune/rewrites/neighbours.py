"""A convolution and a pointwise one right behind it, as one convolution."""

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from hwprune.rewrites.edit import detach, is_constant, on_a_copy, only_reader


@on_a_copy
def join_neighbours(graph: gs.Graph) -> None:
    """Multiplies the weights of a pointwise convolution into those of the one in front.

    Linear bottlenecks that were never given an activation, and heads of two layers, are such.
    W = W2 W1 for every tap, b = W2 b1 + b2; equal up to the order of summation.

    Precondition: constant weights without groups, nobody else reads what lies between, the second
    neither strides nor pads, and the product has fewer weights than both factors together.
    """
    for first in list(graph.nodes):
        while (second := _pointwise_behind(first, graph)) is not None:
            _join(first, second)


def _pointwise_behind(first: gs.Node, graph: gs.Graph) -> gs.Node | None:
    """The convolution that can be multiplied into `first`."""
    if not _is_constant_conv(first):
        return None
    second = only_reader(first.outputs[0], graph)
    if second is None or not _is_constant_conv(second) or not _is_pointwise(second):
        return None
    one, two = first.inputs[1].values, second.inputs[1].values
    joined = two.shape[0] * one[0].size
    return second if joined < one.size + two.size else None


def _is_constant_conv(node: gs.Node) -> bool:
    constant = all(is_constant(t) for t in node.inputs[1:] if t.name)
    ungrouped = node.attrs.get("group", 1) == 1
    return node.op == "Conv" and bool(node.outputs) and constant and ungrouped


def _is_pointwise(node: gs.Node) -> bool:
    """One tap, one step, no edge."""
    window = (*node.inputs[1].shape[2:], *node.attrs.get("strides", ()))
    padded = any(node.attrs.get("pads", ())) or node.attrs.get("auto_pad", "NOTSET") != "NOTSET"
    return set(window) == {1} and not padded


def _join(first: gs.Node, second: gs.Node) -> None:
    one, two = (node.inputs[1].values.astype(np.float64) for node in (first, second))
    mixed = two.reshape(two.shape[:2])
    weight = np.tensordot(mixed, one, 1).astype(np.float32)
    bias = (mixed @ _bias(first) + _bias(second)).astype(np.float32)
    parts = zip(("weight", "bias"), (weight, bias), strict=True)
    constants = [gs.Constant(f"{second.name}/joined/{part}", values) for part, values in parts]
    outputs = list(second.outputs)
    detach(second)
    first.inputs = [first.inputs[0], *constants]
    first.outputs = outputs


def _bias(node: gs.Node) -> NDArray[np.float64]:
    """In double precision; zeros where there is none."""
    if len(node.inputs) > 2 and node.inputs[2].name:
        return np.asarray(node.inputs[2].values, np.float64).reshape(-1)
    return np.zeros(node.inputs[1].shape[0])
