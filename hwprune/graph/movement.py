"""How channels flow through operators that move, join, cut or reduce tensors."""

import numpy as np
import onnx_graphsurgeon as gs

from hwprune.graph.elementwise import unite
from hwprune.graph.flow import Flow, Line, constant, label, rule
from hwprune.graph.ids import NONE, Ids


@rule("Reshape Flatten Squeeze Unsqueeze")
def reshape(flow: Flow, node: gs.Node) -> None:
    """Carries the grid of ids. An axis cut in two is tied along its leading factor, so that what
    is left stays rectangular.
    """
    line = flow.line(node.inputs[0])
    if line is None:
        return
    grid = _grid(line, node.inputs[0].shape).reshape(node.outputs[0].shape)
    varying = _varying(flow, grid)
    while len(varying) > 1:
        first = flow.channels.tie(grid, varying[0], f"{label(node)} cuts an axis that is fixed")
        grid = np.broadcast_to(np.expand_dims(first, varying[0]), grid.shape)
        varying = _varying(flow, grid)
    if varying:
        corner = tuple(slice(None) if a == varying[0] else 0 for a in range(grid.ndim))
        flow.put(node.outputs[0], varying[0], np.array(grid[corner]))
    else:
        flow.refuse(node, "leaves no axis to remove channels from")


@rule("Transpose")
def transpose(flow: Flow, node: gs.Node) -> None:
    """The axis moves."""
    line = flow.line(node.inputs[0])
    if line is not None:
        order = node.attrs.get("perm", range(len(node.inputs[0].shape))[::-1])
        flow.put(node.outputs[0], list(order).index(line.axis), line.ids)


@rule("Expand Tile Resize Upsample")
def enlarge(flow: Flow, node: gs.Node) -> None:
    """Channels pass as long as their own axis keeps its length."""
    line, result = flow.line(node.inputs[0]), node.outputs[0]
    if line is None:
        return
    axis = line.axis + len(result.shape) - len(node.inputs[0].shape)
    if result.shape[axis] != len(line.ids) or constant(node.inputs[-1]) is None:
        return flow.refuse(node, "enlarges the channels' axis")
    return flow.put(result, axis, line.ids)


@rule("Concat")
def concat(flow: Flow, node: gs.Node) -> None:
    """Along the channels' axis the ids are appended, along another one they are united."""
    result, lines = node.outputs[0], [flow.line(tensor) for tensor in node.inputs]
    found = [line for line in lines if line is not None]
    axis = node.attrs["axis"] % len(result.shape)
    if not found:
        return None
    if len({line.axis for line in found}) > 1:
        return flow.refuse(node, "joins channels that lie along different axes")
    if found[0].axis != axis:
        unite(flow, node, found, len(result.shape))
        return flow.put(result, *found[0])
    parts = [
        np.full(int(tensor.shape[axis]), NONE) if line is None else line.ids
        for tensor, line in zip(node.inputs, lines, strict=True)
    ]
    return flow.put(result, axis, np.concatenate(parts))


@rule("Split")
def split(flow: Flow, node: gs.Node) -> None:
    """Each output takes its stretch."""
    line = flow.line(node.inputs[0])
    if line is None:
        return
    axis, start = node.attrs.get("axis", 0) % len(node.inputs[0].shape), 0
    for result in node.outputs:
        stop = start + int(result.shape[axis])
        flow.put(result, line.axis, line.ids[start:stop] if line.axis == axis else line.ids)
        start = stop


@rule("Slice")
def slice_(flow: Flow, node: gs.Node) -> None:
    """Takes a stretch; strides along the channels' axis are not supported."""
    line = flow.line(node.inputs[0])
    if line is None:
        return None
    window = channel_slice(node, line.axis)
    if window is None:
        return flow.refuse(node, "takes channels in strides or at computed places")
    return flow.put(node.outputs[0], line.axis, line.ids[window])


@rule("Gather")
def gather(flow: Flow, node: gs.Node) -> None:
    """Along the channels' axis a constant list of channels is taken; other axes pass."""
    line, indices = flow.line(node.inputs[0]), constant(node.inputs[1])
    if line is None:
        return None
    axis = node.attrs.get("axis", 0) % len(node.inputs[0].shape)
    rank = len(node.inputs[1].shape)
    if line.axis != axis:
        return flow.put(node.outputs[0], line.axis + (rank - 1) * (line.axis > axis), line.ids)
    if indices is None or rank != 1:
        return flow.refuse(node, "picks single channels")
    return flow.put(node.outputs[0], axis, line.ids[indices])


@rule("Pad")
def pad(flow: Flow, node: gs.Node) -> None:
    """Zeros in front of and behind the channels are channels of their own, made by no weight."""
    line = flow.line(node.inputs[0])
    if line is None:
        return None
    amounts = channel_pads(node, line.axis)
    if amounts is None or min(amounts) < 0:
        return flow.refuse(node, "crops the channels or pads them by a computed amount")
    if any(amounts) and not _pads_with_zeros(node):
        return flow.refuse(node, "pads the channels with something other than zeros")
    front, back = (flow.channels.fresh(amount) for amount in amounts)
    return flow.put(node.outputs[0], line.axis, np.concatenate([front, line.ids, back]))


@rule("MaxPool AveragePool LpPool GlobalAveragePool GlobalMaxPool GlobalLpPool")
def pool(flow: Flow, node: gs.Node) -> None:
    """Every channel by itself."""
    line = flow.line(node.inputs[0])
    if line is None:
        return None
    if line.axis > 1:
        return flow.refuse(node, "pools over the channels")
    return flow.put(node.outputs[0], *line)


@rule(
    "ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceLogSumExp "
    "ReduceSumSquare"
)
def reduce(flow: Flow, node: gs.Node) -> None:
    """Other axes are reduced; the channels' own axis must stay."""
    line, rank = flow.line(node.inputs[0]), len(node.inputs[0].shape)
    if line is None:
        return None
    given = constant(node.inputs[1]) if len(node.inputs) > 1 else node.attrs.get("axes")
    axes = {axis % rank for axis in given or range(rank)}
    if line.axis in axes:
        return flow.refuse(node, "reduces over the channels")
    gone = 0 if node.attrs.get("keepdims", 1) else sum(axis < line.axis for axis in axes)
    return flow.put(node.outputs[0], line.axis - gone, line.ids)


@rule("Softmax LogSoftmax Hardmax LpNormalization")
def softmax(flow: Flow, node: gs.Node) -> None:
    """Passes unless it normalises over the channels."""
    line = flow.line(node.inputs[0])
    if line is None:
        return None
    if node.attrs.get("axis", -1) % len(node.inputs[0].shape) == line.axis:
        return flow.refuse(node, "normalises over the channels")
    return flow.put(node.outputs[0], *line)


@rule("LayerNormalization")
def layer_normalization(flow: Flow, node: gs.Node) -> None:
    """Its mean and variance run over all axes from `axis` on."""
    line = flow.line(node.inputs[0])
    if line is None:
        return None
    if node.attrs.get("axis", -1) % len(node.inputs[0].shape) <= line.axis:
        return flow.refuse(node, "normalises over the channels")
    return flow.put(node.outputs[0], *line)


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


def _pads_with_zeros(node: gs.Node) -> bool:
    value = node.inputs[2] if len(node.inputs) > 2 else None
    if node.attrs.get("mode", "constant") != "constant":
        return False
    if value is None or value.is_empty():
        return True
    return isinstance(value, gs.Constant) and not np.any(value.values)


def _grid(line: Line, shape: tuple[int, ...]) -> Ids:
    view = [1] * len(shape)
    view[line.axis] = -1
    return np.broadcast_to(line.ids.reshape(view), shape)


def _varying(flow: Flow, grid: Ids) -> list[int]:
    roots = flow.channels.find(grid)
    return [a for a in range(grid.ndim) if np.any(roots != np.take(roots, [0], a))]
