"""How channels flow through operators with weights: they begin and end here."""

import numpy as np
import onnx_graphsurgeon as gs

from hwprune.graph.cost import input_axis, output_axis, weight_input
from hwprune.graph.elementwise import unite
from hwprune.graph.flow import Flow, Lines, label, rule
from hwprune.graph.ids import Ids

_BLOCKS = "needs equal blocks, and one of them is fixed"


@rule("Conv ConvTranspose")
def convolution(flow: Flow, node: gs.Node) -> None:
    """Fresh ids for the outputs; groups tie their blocks, depthwise ties outputs to inputs."""
    data, weight = node.inputs[:2]
    if not isinstance(weight, gs.Constant):
        return flow.refuse(node, "has a computed weight")
    flow.keep(node, flow.of(data), lambda axis: axis == 1, "slides along an axis of channels")
    inputs = flow.along(data, 1)
    groups = node.attrs.get("group", 1)
    outputs = flow.channels.fresh(int(node.outputs[0].shape[1]))
    if groups == 1:
        _dense(flow, node, weight, inputs, outputs)
    elif groups == len(inputs):
        _depthwise(flow, node, weight, inputs, outputs)
    else:
        _grouped(flow, node, weight, inputs, outputs)
    _bias(flow, node, outputs)
    flow.put(node.outputs[0], {1: outputs})
    return None


@rule("Gemm")
def gemm(flow: Flow, node: gs.Node) -> None:
    """A fully connected layer x W + b; rows pass."""
    if weight_input(node) != 1 or node.attrs.get("transA", 0):
        return flow.refuse(node, "is not a layer with a constant weight")
    outputs = flow.channels.fresh(int(node.outputs[0].shape[1]))
    _dense(flow, node, node.inputs[1], flow.along(node.inputs[0], 1), outputs)
    _bias(flow, node, outputs)
    flow.put(node.outputs[0], {**flow.of(node.inputs[0]), 1: outputs})
    return None


@rule("MatMul")
def matmul(flow: Flow, node: gs.Node) -> None:
    """A layer where one side is constant: a matrix, or one for each of a batch (as heads have).

    Else what is summed over goes together.
    """
    index = weight_input(node)
    if index is None:
        return _product(flow, node)
    data, weight, result = node.inputs[1 - index], node.inputs[index], node.outputs[0]
    if min(len(weight.shape), len(data.shape)) < 2:
        return flow.refuse(node, "multiplies a vector")
    rank, own = len(result.shape), len(data.shape)
    columns, rows = (1, 2) if index == 1 else (2, 1)  # counted from the last axis
    outputs = flow.channels.fresh(int(result.shape[rank - columns]))
    _dense(flow, node, weight, flow.along(data, own - columns), outputs)
    batch = {axis: unite(flow, node, [data, weight], result, axis) for axis in range(rank - 2)}
    lines = {axis: ids for axis, ids in batch.items() if ids is not None}
    lines |= {rank - rows: flow.along(data, own - rows), rank - columns: outputs}
    return flow.put(result, lines)


@rule("BatchNormalization InstanceNormalization")
def normalization(flow: Flow, node: gs.Node) -> None:
    """Every channel by itself; the parameters run along.

    Channels that lie along the other axes (as in a group normalisation) are normalised together.
    """
    lines = flow.of(node.inputs[0])
    for tensor in node.inputs[1:]:
        _along(flow, node, tensor, {0: lines[1]} if 1 in lines else {})
    flow.put(node.outputs[0], lines)
    for result in node.outputs[1:]:  # running statistics, in training mode
        flow.put(result, {0: lines[1]} if 1 in lines else {})


@rule("LayerNormalization RMSNormalization")
def layer_normalization(flow: Flow, node: gs.Node) -> None:
    """Over all axes from `axis` on; the parameters run along (decision 0009)."""
    data = node.inputs[0]
    lines, first = flow.of(data), node.attrs.get("axis", -1) % len(data.shape)
    for tensor in node.inputs[1:]:
        _along(flow, node, tensor, {a - first: ids for a, ids in lines.items() if a >= first})
    flow.put(node.outputs[0], lines)


def _along(flow: Flow, node: gs.Node, parameter: gs.Tensor, lines: Lines) -> None:
    """The ids of `lines` also run along a parameter's own axes, unless it is spread over them."""
    for axis, ids in lines.items():
        if not isinstance(parameter, gs.Constant):
            flow.channels.freeze(ids, f"{label(node)} has computed parameters")
        elif len(parameter.shape) > axis and parameter.shape[axis] > 1:
            flow.attach(parameter, axis, ids)


def _product(flow: Flow, node: gs.Node) -> None:
    """Two activations, ... x m x k and ... x k x n: attention's scores and what they weigh."""
    (a, b), result = node.inputs, node.outputs[0]
    if min(len(a.shape), len(b.shape)) < 2:
        return flow.refuse(node, "multiplies a vector")
    rank = len(result.shape)
    flow.channels.unite(
        flow.along(a, len(a.shape) - 1),
        flow.along(b, len(b.shape) - 2),
        f"{label(node)} sums over channels that are fixed on its other side",
    )
    batch = {axis: unite(flow, node, [a, b], result, axis) for axis in range(rank - 2)}
    lines = {axis: ids for axis, ids in batch.items() if ids is not None}
    lines[rank - 2] = flow.along(a, len(a.shape) - 2)
    lines[rank - 1] = flow.along(b, len(b.shape) - 1)
    return flow.put(result, lines)


def _dense(flow: Flow, node: gs.Node, weight: gs.Constant, inputs: Ids, outputs: Ids) -> None:
    flow.attach(weight, input_axis(node), inputs)
    flow.attach(weight, output_axis(node), outputs)
    flow.consumers.append((node.name, inputs))
    flow.producers.append((node.name, outputs))


def _depthwise(flow: Flow, node: gs.Node, weight: gs.Constant, inputs: Ids, outputs: Ids) -> None:
    """Outputs c*m ... c*m+m-1 (m: channel multiplier) belong to input c."""
    multiplier = len(outputs) // len(inputs)
    reason = f"{label(node)} works on channels that are fixed"
    flow.channels.unite(outputs, np.repeat(inputs, multiplier, axis=0), reason)
    if node.op == "Conv":
        return flow.attach(weight, 0, outputs)
    flow.attach(weight, 0, inputs)
    return None


def _grouped(flow: Flow, node: gs.Node, weight: gs.Constant, inputs: Ids, outputs: Ids) -> None:
    """Channel j of every block goes at once, so that all blocks keep one width."""
    groups, reason = node.attrs["group"], f"{label(node)} {_BLOCKS}"
    first_in, first_out = (
        flow.channels.tie(ids.reshape(groups, -1, ids.shape[1]), reason)
        for ids in (inputs, outputs)
    )
    whole, block = (outputs, first_in) if node.op == "Conv" else (inputs, first_out)
    flow.attach(weight, 0, whole)
    flow.attach(weight, 1, block)
    flow.consumers.append((node.name, inputs))
    flow.producers.append((node.name, outputs))


def _bias(flow: Flow, node: gs.Node, outputs: Ids) -> None:
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is None or bias.is_empty():
        return
    if not isinstance(bias, gs.Constant):
        flow.channels.freeze(outputs, f"{label(node)} has a computed bias")
        flow.freeze(bias, f"{label(node)} uses it as bias")
    elif bias.shape and bias.shape[-1] == len(outputs):
        flow.attach(bias, len(bias.shape) - 1, outputs)
