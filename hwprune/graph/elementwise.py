"""How channels flow through operators that treat every position by itself."""

from collections.abc import Sequence

import onnx_graphsurgeon as gs

from hwprune.graph.flow import Flow, label, rule
from hwprune.graph.ids import Ids

_UNARY = (
    "Abs Acos Acosh Asin Asinh Atan Atanh Cast Ceil Celu Clip Cos Cosh Dropout Elu Erf Exp Floor "
    "Gelu HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu "
    "Round Selu Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu"
)
_BROADCASTING = (
    "Add And BitShift Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min Mod Mul Or "
    "PRelu Pow Sub Sum Where Xor"
)


@rule(_UNARY)
def unary(flow: Flow, node: gs.Node) -> None:
    """Channels pass."""
    flow.put(node.outputs[0], flow.of(node.inputs[0]))


@rule(_BROADCASTING)
def broadcasting(flow: Flow, node: gs.Node) -> None:
    """Channels that meet are united; per-channel constants become members."""
    result = node.outputs[0]
    joined = {axis: unite(flow, node, node.inputs, result, axis) for axis in _axes(flow, node)}
    flow.put(result, {axis: ids for axis, ids in joined.items() if ids is not None})


def unite(
    flow: Flow, node: gs.Node, tensors: Sequence[gs.Tensor], result: gs.Tensor, axis: int
) -> Ids | None:
    """Ties what lies along one axis of `result`, where the axes of `tensors` count from the right.

    Returns the ids along it, or None where nothing could go.
    """
    size, found = int(result.shape[axis]), list[Ids]()
    own = [(t, axis - len(result.shape) + len(t.shape or ())) for t in tensors]
    own = [(tensor, at) for tensor, at in own if at >= 0 and tensor.shape[at] == size]
    for tensor, at in own:
        if at in flow.of(tensor):
            found.append(flow.of(tensor)[at])
    if not found:
        return None
    for other in found[1:]:
        flow.channels.unite(found[0], other, f"{label(node)} meets channels that are fixed")
    for tensor, at in own:
        if isinstance(tensor, gs.Constant):
            flow.attach(tensor, at, found[0])
        elif at not in flow.of(tensor):
            reason = f"{label(node)} meets {tensor.name!r}, whose channels are fixed"
            flow.channels.freeze(found[0], reason)
    return found[0]


def _axes(flow: Flow, node: gs.Node) -> list[int]:
    """The axes of the result that some input has channels along."""
    rank = len(node.outputs[0].shape)
    own = ((axis, t) for t in node.inputs for axis in flow.of(t))
    return sorted({axis + rank - len(t.shape) for axis, t in own})
