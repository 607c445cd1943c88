"""How channels flow through operators that treat every position by itself."""

import numpy as np
import onnx_graphsurgeon as gs

from hwprune.graph.flow import Flow, Line, label, rule

_UNARY = (
    "Abs Cast Ceil Celu Clip Cos Dropout Elu Erf Exp Floor Gelu HardSigmoid HardSwish Identity "
    "LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu Sigmoid Sign Sin Softplus Softsign "
    "Sqrt Swish Tanh ThresholdedRelu"
)
_BROADCASTING = (
    "Add And BitShift Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min Mod Mul Or "
    "PRelu Pow Sub Sum Where Xor"
)


@rule(_UNARY)
def unary(flow: Flow, node: gs.Node) -> None:
    """Channels pass."""
    line = flow.line(node.inputs[0])
    if line is not None:
        flow.put(node.outputs[0], *line)


@rule(_BROADCASTING)
def broadcasting(flow: Flow, node: gs.Node) -> None:
    """Channels that meet are united; per-channel constants become members."""
    result = node.outputs[0]
    rank, lines = len(result.shape), []
    for tensor in node.inputs:
        line = _raised(flow, tensor, rank)
        if line is not None and len(line.ids) == result.shape[line.axis]:
            lines.append(line)
    if not lines:
        return
    if len({line.axis for line in lines}) > 1:
        flow.refuse(node, "combines channels that lie along different axes")
        return
    unite(flow, node, lines, rank)
    flow.put(result, *lines[0])


def unite(flow: Flow, node: gs.Node, lines: list[Line], rank: int) -> None:
    """Ties all inputs of `node` along the common axis of `lines`; axes count from the right."""
    axis, ids = lines[0]
    for line in lines[1:]:
        flow.channels.unite(ids, line.ids, f"{label(node)} meets channels that are fixed")
    for tensor in node.inputs:
        own = axis - rank + len(tensor.shape or ())
        if own < 0 or tensor.shape[own] != len(ids):
            continue
        if isinstance(tensor, gs.Constant):
            flow.attach(tensor, own, ids)
        elif flow.line(tensor) is None:
            reason = f"{label(node)} meets {tensor.name!r}, whose channels are fixed"
            flow.channels.freeze(ids, reason)


def _raised(flow: Flow, tensor: gs.Tensor, rank: int) -> Line | None:
    line = flow.line(tensor)
    if line is None:
        return None
    return Line(line.axis + rank - len(tensor.shape), np.asarray(line.ids))
