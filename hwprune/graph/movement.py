"""How channels flow through operators that move, join or cut tensors."""

import numpy as np
import onnx_graphsurgeon as gs

from hwprune.graph.axes import reshaped
from hwprune.graph.elementwise import unite
from hwprune.graph.flow import Flow, Lines, constant, label, rule
from hwprune.graph.ids import Ids, widened


@rule("Reshape Flatten Squeeze Unsqueeze")
def reshape(flow: Flow, node: gs.Node) -> None:
    """Carries the grid of ids: axes are joined to one, or one is cut into several."""
    (data, *_), result = node.inputs, node.outputs[0]
    reason = f"{label(node)} cuts an axis that is fixed"
    flow.put(result, reshaped(flow.channels, flow.of(data), data.shape, result.shape, reason))


@rule("Transpose")
def transpose(flow: Flow, node: gs.Node) -> None:
    """The axes move."""
    order = list(node.attrs.get("perm", range(len(node.inputs[0].shape))[::-1]))
    lines = flow.of(node.inputs[0])
    flow.put(node.outputs[0], {order.index(axis): ids for axis, ids in lines.items()})


@rule("Expand Tile Resize Upsample")
def enlarge(flow: Flow, node: gs.Node) -> None:
    """Channels pass as long as their own axis keeps its length."""
    data, result = node.inputs[0], node.outputs[0]
    more = len(result.shape) - len(data.shape)
    known = constant(node.inputs[-1]) is not None or node.op == "Upsample"

    def stays(axis: int) -> bool:
        return known and bool(result.shape[axis + more] == data.shape[axis])

    lines = flow.keep(node, flow.of(data), stays, "enlarges the channels' axis")
    flow.put(result, {axis + more: ids for axis, ids in lines.items()})


@rule("DepthToSpace SpaceToDepth")
def pixel_shuffle(flow: Flow, node: gs.Node) -> None:
    """The block x block channels that make one channel's pixels, or are made of them, are one."""
    data, result = node.inputs[0], node.outputs[0]
    lines = flow.keep(node, flow.of(data), lambda axis: axis < 2, "moves channels into pixels")
    if 1 not in lines:
        return flow.put(result, lines)
    taps, ids = int(node.attrs["blocksize"]) ** 2, lines[1]
    columns_first = node.attrs.get("mode", "DCR") == "CRD"
    if node.op == "SpaceToDepth":
        spread = np.repeat(ids, taps, axis=0) if columns_first else np.tile(ids, (taps, 1))
        return flow.put(result, {**lines, 1: spread})
    inner = (-1, taps) if columns_first else (taps, -1)
    grid = ids.reshape(*inner, ids.shape[1])
    grid = grid.swapaxes(0, 1) if inner[0] == -1 else grid
    return flow.put(result, {**lines, 1: flow.channels.tie(grid, f"{label(node)} is fixed")})


@rule("Col2Im")
def fold(flow: Flow, node: gs.Node) -> None:
    """Patches become an image: the values of one channel's patch are one."""
    lines = flow.keep(node, flow.of(node.inputs[0]), lambda a: a == 1, "moves patches into pixels")
    if 1 in lines:
        grid = lines[1].reshape(int(node.outputs[0].shape[1]), -1, lines[1].shape[1])
        tied = flow.channels.tie(grid.swapaxes(0, 1), f"{label(node)} is fixed")
        flow.put(node.outputs[0], {1: tied})


@rule("Concat")
def concat(flow: Flow, node: gs.Node) -> None:
    """Along its own axis the ids are appended, along the others they are united."""
    result = node.outputs[0]
    own = node.attrs["axis"] % len(result.shape)
    found = {axis for tensor in node.inputs for axis in flow.of(tensor)}
    lines = {a: unite(flow, node, node.inputs, result, a) for a in sorted(found - {own})}
    if own in found:
        parts = [flow.along(tensor, own) for tensor in node.inputs]
        wide = max(part.shape[1] for part in parts)
        lines[own] = np.concatenate([widened(part, wide) for part in parts])
    flow.put(result, {axis: ids for axis, ids in lines.items() if ids is not None})


@rule("Split")
def split(flow: Flow, node: gs.Node) -> None:
    """Each output takes its stretch."""
    lines = flow.of(node.inputs[0])
    own, start = node.attrs.get("axis", 0) % len(node.inputs[0].shape), 0
    for result in node.outputs:
        stop = start + int(result.shape[own])
        flow.put(result, {a: ids[start:stop] if a == own else ids for a, ids in lines.items()})
        start = stop


@rule("Slice")
def slice_(flow: Flow, node: gs.Node) -> None:
    """Takes a stretch; strides along the channels' axis are not supported."""
    data = node.inputs[0]
    windows = {axis: channel_slice(node, axis) for axis in flow.of(data)}
    why = "takes channels in strides or at computed places"
    lines = flow.keep(node, flow.of(data), lambda axis: windows[axis] is not None, why)
    flow.put(node.outputs[0], {axis: ids[windows[axis]] for axis, ids in lines.items()})


@rule("Gather")
def gather(flow: Flow, node: gs.Node) -> None:
    """A constant list of channels is taken along their axis; other axes pass. A constant that is
    looked up makes channels of its own (an embedding).
    """
    data, rank = node.inputs[0], len(node.inputs[1].shape)
    own = node.attrs.get("axis", 0) % len(data.shape)
    flow.freeze(node.inputs[1], f"{label(node)} looks places up in it")
    lines = _looked_up(flow, node, own) if isinstance(data, gs.Constant) else flow.of(data)
    indices = constant(node.inputs[1]) if rank == 1 else None
    passing = flow.keep(
        node, lines, lambda axis: axis != own or indices is not None, "picks single channels"
    )
    found = {axis + (rank - 1) * (axis > own): ids for axis, ids in passing.items()}
    if own in passing:
        found[own] = passing[own][indices]
    flow.put(node.outputs[0], found)


@rule("Pad")
def pad(flow: Flow, node: gs.Node) -> None:
    """Constants in front of and behind the channels are channels that no weight makes."""
    data = node.inputs[0]
    amounts = {axis: channel_pads(node, axis) for axis in flow.of(data)}
    crop, fill = (
        "crops the channels or pads them by a computed amount",
        "pads the channels with other ones, or a computed value",
    )
    lines = flow.keep(node, flow.of(data), lambda a: min(amounts[a] or (-1,)) >= 0, crop)
    constant_fill = _pads_with_a_constant(node)
    lines = flow.keep(node, lines, lambda a: constant_fill or not any(amounts[a] or ()), fill)
    flow.put(node.outputs[0], {a: _padded(flow, ids, amounts[a]) for a, ids in lines.items()})


def channel_slice(node: gs.Node, axis: int) -> slice | None:
    """What a Slice takes along `axis` (all of it: slice(None)); None if that is unknown."""
    values = [constant(tensor) for tensor in node.inputs[1:]]
    if any(value is None for value in values[:2]):
        return None
    starts, ends = values[0] or [], values[1] or []
    rank = len(node.inputs[0].shape)
    axes = values[2] if len(values) > 2 and values[2] else list(range(len(starts)))
    steps = values[3] if len(values) > 3 and values[3] else [1] * len(starts)
    for start, end, own, step in zip(starts, ends, axes, steps, strict=True):
        if own % rank == axis:
            return slice(start, end) if step == 1 else None
    return slice(None)


def channel_pads(node: gs.Node, axis: int) -> tuple[int, int] | None:
    """How much a Pad puts in front of and behind `axis`; None if that is unknown."""
    amounts, rank = constant(node.inputs[1]), len(node.inputs[0].shape)
    axes = list(range(rank))
    if len(node.inputs) > 3 and not node.inputs[3].is_empty():
        given = constant(node.inputs[3])
        axes = [own % rank for own in given] if given is not None else []
    if amounts is None or not axes:
        return None
    if axis not in axes:
        return 0, 0
    return amounts[axes.index(axis)], amounts[axes.index(axis) + len(axes)]


def _pads_with_a_constant(node: gs.Node) -> bool:
    value = node.inputs[2] if len(node.inputs) > 2 else None
    known = value is None or value.is_empty() or isinstance(value, gs.Constant)
    return known and node.attrs.get("mode", "constant") == "constant"


def _padded(flow: Flow, ids: Ids, amounts: tuple[int, int] | None) -> Ids:
    front, back = (widened(flow.channels.fresh(n), ids.shape[1]) for n in amounts or (0, 0))
    return np.concatenate([front, ids, back])


def _looked_up(flow: Flow, node: gs.Node, own: int) -> Lines:
    """Fresh ids along the last axis of a constant table."""
    table = node.inputs[0]
    last = len(table.shape) - 1
    if own == last or not np.issubdtype(table.dtype, np.floating):
        return {}
    ids = flow.channels.fresh(int(table.shape[last]))
    flow.attach(table, last, ids)
    flow.producers.append((node.name, ids))
    return {last: ids}
