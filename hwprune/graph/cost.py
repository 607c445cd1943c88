"""Multiply-accumulates and parameters."""

import math

import numpy as np
import onnx_graphsurgeon as gs

from hwprune.graph.recurrent import GATES

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def weight_input(node: gs.Node) -> int | None:
    """Index of the input that holds the weight of a Conv, ConvTranspose, Gemm or MatMul."""
    if node.op in _WEIGHTED:
        for index in (1, 0):
            if isinstance(node.inputs[index], gs.Constant):
                return index
    return None


def output_axis(node: gs.Node) -> int:
    """Axis of the weight that runs over output channels.

    Conv: O x I/g x k; ConvTranspose: I x O/g x k (the groups lie along axis 0); Gemm and MatMul by
    the side that the weight stands on.
    """
    if node.op == "Conv":
        return 0
    if node.op == "ConvTranspose":
        return 1
    index = weight_input(node)
    ndim = len(node.inputs[1 if index is None else index].shape)
    if node.op == "Gemm":
        flipped = node.attrs.get("transA" if index == 0 else "transB", 0)
        return int(bool(flipped)) ^ int(index == 1)
    return ndim - 2 if index == 0 and ndim > 1 else ndim - 1


def input_axis(node: gs.Node) -> int:
    """Axis of the weight that runs over input channels (of one block, if grouped)."""
    ndim = len(node.inputs[weight_input(node) or 0].shape)
    if node.op in ("Conv", "ConvTranspose"):
        return 1 - output_axis(node)
    return 2 * ndim - 3 - output_axis(node)


def weighted_nodes(graph: gs.Graph) -> list[gs.Node]:
    """The nodes with a constant weight, in graph order."""
    return [node for node in graph.nodes if weight_input(node) is not None]


def node_macs(node: gs.Node) -> int:
    """Multiply-accumulates of one run at the graph's batch; 0 for everything but products."""
    if node.op == "Conv":
        weight = node.inputs[1].shape
        return int(math.prod(node.outputs[0].shape) * math.prod(weight[1:]))
    if node.op == "ConvTranspose":
        weight = node.inputs[1].shape
        return int(math.prod(node.inputs[0].shape) * math.prod(weight[1:]))
    if node.op == "Gemm":
        inner = node.inputs[0].shape[0 if node.attrs.get("transA", 0) else 1]
        return int(math.prod(node.outputs[0].shape) * inner)
    if node.op in GATES:
        steps = math.prod(node.inputs[0].shape[:2])
        return int(steps * sum(math.prod(t.shape) for t in node.inputs[1:3]))
    if node.op == "MatMul":
        return int(math.prod(node.outputs[0].shape) * node.inputs[0].shape[-1])
    return 0


def macs(graph: gs.Graph) -> int:
    """Multiply-accumulates of one run of the whole graph."""
    return sum(map(node_macs, graph.nodes))


def params(graph: gs.Graph) -> int:
    """Number of trained values: all floating-point initializers, each counted once."""
    constants = (t for t in graph.tensors().values() if isinstance(t, gs.Constant))
    return sum(math.prod(t.shape) for t in constants if np.issubdtype(t.dtype, np.floating))


def largest_tensor_bytes(graph: gs.Graph) -> int:
    """Bytes of the largest fp32 activation, for one sample."""
    batch = max(1, int(graph.inputs[0].shape[0]))
    sizes = [math.prod(out.shape) for node in graph.nodes for out in node.outputs if out.shape]
    return max(1, 4 * max(sizes, default=1) // batch)
