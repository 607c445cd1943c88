"""Attributes and shape constants of nodes whose tensors became smaller."""

from collections.abc import Callable

import numpy as np
import onnx_graphsurgeon as gs

from hwprune.graph.channels import Coupling, Keep
from hwprune.graph.flow import constant
from hwprune.graph.movement import channel_pads, channel_slice
from hwprune.graph.recurrent import GATES, RECURRENCE

_Repair = Callable[[gs.Node, gs.Node, Coupling, Keep], None]


def repair_node(before: gs.Node, node: gs.Node, coupling: Coupling, keep: Keep) -> None:
    """Makes `node` fit its new tensors; `before` is the same node of the uncut graph."""
    repair = _REPAIRS.get(node.op)
    if repair is not None:
        repair(before, node, coupling, keep)


def _conv(before: gs.Node, node: gs.Node, coupling: Coupling, keep: Keep) -> None:
    """Depthwise: as many groups as input channels. Other grouped ones lose channels per block."""
    if before.attrs.get("group", 1) == before.inputs[0].shape[1] > 1:
        node.attrs["group"] = node.inputs[0].shape[1]


def _recurrent(before: gs.Node, node: gs.Node, coupling: Coupling, keep: Keep) -> None:
    node.attrs["hidden_size"] = int(node.inputs[RECURRENCE].shape[2])


def _shape(before: gs.Node, node: gs.Node, coupling: Coupling, keep: Keep) -> None:
    """Reshape, Expand, Resize: entries that named a length name the new one; 0, 1, -1 stay."""
    index = len(node.inputs) - 1
    given = constant(node.inputs[index])
    old, new = list(before.outputs[0].shape), list(node.outputs[0].shape)
    if given is None or old == new or node.inputs[index].values.dtype != np.int64:
        return
    old, new = old[len(old) - len(given) :], new[len(new) - len(given) :]
    fitted = [n if g == o else g for g, o, n in zip(given, old, new, strict=True)]
    _replace(node, index, "shape", fitted)


def _split(before: gs.Node, node: gs.Node, coupling: Coupling, keep: Keep) -> None:
    axis = node.attrs.get("axis", 0) % len(node.inputs[0].shape)
    sizes = [int(tensor.shape[axis]) for tensor in node.outputs]
    if sizes != [int(tensor.shape[axis]) for tensor in before.outputs]:
        _replace(node, 1, "split", sizes)
        node.attrs.pop("num_outputs", None)


def _slice(before: gs.Node, node: gs.Node, coupling: Coupling, keep: Keep) -> None:
    """The window over an axis of channels becomes the rank of its ends among what stays."""
    name = before.inputs[0].name
    for axis, size in enumerate(before.inputs[0].shape):
        kept, window = coupling.kept(name, axis, keep), channel_slice(before, axis)
        if kept is None or window is None or window == slice(None) or len(kept) == size:
            continue
        start, stop, _ = window.indices(size)
        ends = np.searchsorted(kept, [start, max(start, stop)]).tolist()
        entry = _entry(before, axis)
        for index, end, role in zip((1, 2), ends, ("starts", "ends"), strict=True):
            values = constant(node.inputs[index]) or []
            values[entry] = end
            _replace(node, index, role, values)


def _entry(node: gs.Node, axis: int) -> int:
    """Where a Slice or Pad names `axis`; without a list of axes it names them all, in order."""
    rank = len(node.inputs[0].shape)
    axes = constant(node.inputs[3]) if len(node.inputs) > 3 else None
    return [own % rank for own in axes or range(rank)].index(axis)


def _gather(before: gs.Node, node: gs.Node, coupling: Coupling, keep: Keep) -> None:
    name, indices = before.inputs[0].name, constant(before.inputs[1])
    size = before.inputs[0].shape[axis := before.attrs.get("axis", 0) % _rank(before)]
    kept = coupling.kept(name, axis, keep)
    taken = coupling.kept(before.outputs[0].name, axis, keep)
    if kept is None or indices is None or len(kept) == size:
        return
    stays = slice(None) if taken is None else taken  # a single channel that is taken stays
    chosen = np.asarray(indices)[stays] % size
    _replace(node, 1, "indices", np.searchsorted(kept, chosen).tolist())


def _pad(before: gs.Node, node: gs.Node, coupling: Coupling, keep: Keep) -> None:
    """As many zeros in front and behind as there are padded positions that stay."""
    result = before.outputs[0]
    for axis, size in enumerate(result.shape):
        kept, amounts = coupling.kept(result.name, axis, keep), channel_pads(before, axis)
        if kept is None or amounts is None or not any(amounts):
            continue
        front, back = amounts
        values, entry = constant(node.inputs[1]) or [], _entry(before, axis)
        values[entry] = int(np.sum(kept < front))
        values[entry + len(values) // 2] = int(np.sum(kept >= size - back))
        _replace(node, 1, "pads", values)


def _rank(node: gs.Node) -> int:
    return len(node.inputs[0].shape)


def _replace(node: gs.Node, index: int, role: str, values: list[int]) -> None:
    """Gives the node a constant of its own, since the old one may be shared."""
    inputs = list(node.inputs)
    old = inputs[index] if index < len(inputs) else None
    if isinstance(old, gs.Constant) and constant(old) == values:
        return
    dtype = old.values.dtype if isinstance(old, gs.Constant) else np.int64
    name = f"{node.name}.{role}"
    inputs[index : index + 1] = [gs.Constant(name, np.array(values, dtype))]
    node.inputs = inputs


_REPAIRS: dict[str, _Repair] = {
    **dict.fromkeys(GATES, _recurrent),
    "Conv": _conv,
    "ConvTranspose": _conv,
    "Reshape": _shape,
    "Expand": _shape,
    "Resize": _shape,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "Pad": _pad,
}
