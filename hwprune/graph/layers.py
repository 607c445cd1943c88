"""How channels flow through operators with weights: they begin and end here."""

import numpy as np
import onnx_graphsurgeon as gs

from hwprune.graph.cost import input_axis, output_axis, weight_input
from hwprune.graph.flow import Flow, label, rule
from hwprune.graph.ids import NONE, Ids

_BLOCKS = "needs equal blocks, and one of them is fixed"


@rule("Conv ConvTranspose")
def convolution(flow: Flow, node: gs.Node) -> None:
    """Fresh ids for the outputs; groups tie their blocks, depthwise ties outputs to inputs."""
    data, weight = node.inputs[:2]
    if not isinstance(weight, gs.Constant):
        return flow.refuse(node, "has a computed weight")
    inputs = _along(flow, node, data, 1)
    if inputs is None:
        return None
    groups = node.attrs.get("group", 1)
    outputs = flow.channels.fresh(int(node.outputs[0].shape[1]))
    if groups == 1:
        _dense(flow, node, weight, inputs, outputs)
    elif groups == len(inputs):
        _depthwise(flow, node, weight, inputs, outputs)
    else:
        _grouped(flow, node, weight, inputs, outputs)
    _bias(flow, node, outputs)
    flow.put(node.outputs[0], 1, outputs)
    return None


@rule("Gemm")
def gemm(flow: Flow, node: gs.Node) -> None:
    """A fully connected layer x W + b."""
    if weight_input(node) != 1 or node.attrs.get("transA", 0):
        return flow.refuse(node, "is not a layer with a constant weight")
    inputs = _along(flow, node, node.inputs[0], 1)
    if inputs is None:
        return None
    outputs = flow.channels.fresh(int(node.outputs[0].shape[1]))
    _dense(flow, node, node.inputs[1], inputs, outputs)
    _bias(flow, node, outputs)
    flow.put(node.outputs[0], 1, outputs)
    return None


@rule("MatMul")
def matmul(flow: Flow, node: gs.Node) -> None:
    """A constant matrix on either side; a product of two activations freezes both."""
    index = weight_input(node)
    if index is None:
        return flow.refuse(node, "multiplies two activations")
    data, weight, result = node.inputs[1 - index], node.inputs[index], node.outputs[0]
    if len(weight.shape) != 2 or len(data.shape) < 2:
        return flow.refuse(node, "has a weight that is not a matrix")
    axis = len(data.shape) - (1 if index == 1 else 2)
    outputs = flow.channels.fresh(int(result.shape[axis]))
    line = flow.line(data)
    if line is not None and line.axis != axis:
        _dense(flow, node, weight, np.full(int(data.shape[axis]), NONE), outputs)
        flow.channels.freeze(outputs, f"{label(node)} mixes along another axis than the channels'")
        return flow.put(result, line.axis, line.ids)
    inputs = np.full(int(data.shape[axis]), NONE) if line is None else line.ids
    _dense(flow, node, weight, inputs, outputs)
    return flow.put(result, axis, outputs)


@rule("BatchNormalization InstanceNormalization")
def normalization(flow: Flow, node: gs.Node) -> None:
    """Every channel by itself; the parameters run along."""
    ids = _along(flow, node, node.inputs[0], 1)
    if ids is None:
        return
    for tensor in node.inputs[1:]:
        if isinstance(tensor, gs.Constant):
            flow.attach(tensor, 0, ids)
        else:
            flow.channels.freeze(ids, f"{label(node)} has computed parameters")
    flow.put(node.outputs[0], 1, ids)


def _along(flow: Flow, node: gs.Node, tensor: gs.Tensor, axis: int) -> Ids | None:
    """Ids of `tensor` along `axis`; None (and frozen) if its channels lie along another."""
    line = flow.line(tensor)
    if line is None:
        return np.full(int(tensor.shape[axis]), NONE)
    if line.axis != axis:
        flow.refuse(node, f"reads channels along axis {line.axis} instead of {axis}")
        return None
    return line.ids


def _dense(flow: Flow, node: gs.Node, weight: gs.Constant, inputs: Ids, outputs: Ids) -> None:
    flow.attach(weight, input_axis(node), inputs)
    flow.attach(weight, output_axis(node), outputs)
    flow.consumers.append((node.name, inputs))
    flow.producers.append((node.name, outputs))


def _depthwise(flow: Flow, node: gs.Node, weight: gs.Constant, inputs: Ids, outputs: Ids) -> None:
    """Outputs c*m ... c*m+m-1 (m: channel multiplier) belong to input c."""
    multiplier = len(outputs) // len(inputs)
    reason = f"{label(node)} works on channels that are fixed"
    flow.channels.unite(outputs, np.repeat(inputs, multiplier), reason)
    if node.op == "Conv":
        return flow.attach(weight, 0, outputs)
    flow.attach(weight, 0, inputs)
    return None


def _grouped(flow: Flow, node: gs.Node, weight: gs.Constant, inputs: Ids, outputs: Ids) -> None:
    """Channel j of every block goes at once, so that all blocks keep one width."""
    groups, reason = node.attrs["group"], f"{label(node)} {_BLOCKS}"
    first_in = flow.channels.tie(inputs.reshape(groups, -1), 0, reason)
    first_out = flow.channels.tie(outputs.reshape(groups, -1), 0, reason)
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
