"""How channels flow through recurrent layers: the input's width, and the width of the state."""

import numpy as np
import onnx_graphsurgeon as gs

from hwprune.graph.flow import Flow, label, rule
from hwprune.graph.ids import Ids

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
WEIGHT, RECURRENCE = 1, 2  # inputs: directions x gates * state x (input or state)
_BIAS, _FIRST_STATE, _FIRST_CELL, _PEEPHOLE = 3, 5, 6, 7


@rule("RNN GRU LSTM")
def recurrent(flow: Flow, node: gs.Node) -> None:
    """A unit of the state is one in every gate, direction and time step; it reads the others."""
    data, weight, recurrence = node.inputs[:3]
    if not isinstance(weight, gs.Constant) or not isinstance(recurrence, gs.Constant):
        return flow.refuse(node, "has computed weights")
    flow.keep(node, flow.of(data), lambda axis: axis == 2, "runs along an axis of channels")
    units = flow.channels.fresh(int(recurrence.shape[2]))
    gates = GATES[node.op]
    for tensor, axis, ids in (
        (weight, 2, flow.along(data, 2)),
        (weight, 1, np.tile(units, (gates, 1))),
        (recurrence, 1, np.tile(units, (gates, 1))),
        (recurrence, 2, units),
    ):
        flow.attach(tensor, axis, ids)
    _beside(flow, node, _BIAS, np.tile(units, (2 * gates, 1)))
    _beside(flow, node, _PEEPHOLE, np.tile(units, (3, 1)))
    _beside(flow, node, _FIRST_STATE, units)
    _beside(flow, node, _FIRST_CELL, units)
    flow.consumers += [(node.name, flow.along(data, 2)), (node.name, units)]
    flow.producers.append((node.name, units))
    for result in node.outputs:
        if result.shape is not None:
            flow.put(result, {len(result.shape) - 1: units})
    return None


def _beside(flow: Flow, node: gs.Node, index: int, ids: Ids) -> None:
    """What runs along an optional input's last axis: constants are cut, too."""
    tensor = node.inputs[index] if index < len(node.inputs) else None
    if tensor is None or tensor.is_empty():
        return
    axis = len(tensor.shape) - 1
    if isinstance(tensor, gs.Constant):
        flow.attach(tensor, axis, ids)
    else:
        why = f"{label(node)} begins with a state whose channels are fixed"
        flow.channels.unite(ids, flow.along(tensor, axis), why)
