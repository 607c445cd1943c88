"""Operators that move values without computing any.

The graph's shapes are static, the twin's batch is not: `Reshape`, `Expand` and `Concat` follow the
batch that really comes in.
"""

import math
from itertools import accumulate

import onnx_graphsurgeon as gs
import torch
import torch.nn.functional as F
from torch import Tensor

from hwprune.network.call import (
    Call,
    Operator,
    Shape,
    integers,
    is_constant,
    shape,
    unsupported,
    values,
)

_PAD_MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


def follow_batch(actual: Shape, before: Shape, after: Shape) -> Shape:
    """The target of a static reshape `before -> after` for an input of the `actual` shape.

    One axis of `before` grew by some factor: the batch. Its place in memory order tells which axis
    of `after` grows with it.
    """
    grown = [i for i, (a, b) in enumerate(zip(actual, before, strict=True)) if a != b]
    if not grown:
        return after
    axis = grown[0]
    sizes = list(after)
    target = _batch_axis(before, after, axis)
    sizes[target] = sizes[target] * actual[axis] // before[axis]
    return tuple(sizes)


def _batch_axis(before: Shape, after: Shape, axis: int) -> int:
    """Where the batch of a graph of batch 1 goes, told by the memory order."""
    outer = math.prod(before[:axis])
    prefixes = [1, *accumulate(after, int.__mul__)]
    place = prefixes.index(outer) if outer in prefixes[:-1] else 0
    for own in range(place, len(after)):  # an axis of length 1 within what `axis` becomes
        if prefixes[own] > outer * before[axis]:
            break
        if after[own] == 1:
            return own
    split = len(after) - place > len(before) - axis - 1  # the batch goes in front of heads, say
    return place if split or place == 0 else place - 1


def reshape(x: Tensor, before: Shape, after: Shape) -> Tensor:
    """Static reshape that follows the batch."""
    return x.reshape(follow_batch(tuple(x.shape), before, after))


def expand(x: Tensor, before: Shape, after: Shape) -> Tensor:
    """Static broadcast; axes that it does not change follow the batch."""
    added = len(after) - len(before)
    kept = [
        -1 if i >= added and before[i - added] == size else size for i, size in enumerate(after)
    ]
    return x.expand(kept)


def concat(*tensors: Tensor, dim: int) -> Tensor:
    """Concatenation; a constant of batch 1 is repeated for the real batch."""
    dim %= tensors[0].ndim
    sizes = [max(t.shape[i] for t in tensors) for i in range(tensors[0].ndim)]
    sizes[dim] = -1
    return torch.cat([t.expand(sizes) for t in tensors], dim)


def slices(x: Tensor, starts: Shape, ends: Shape, axes: Shape, steps: Shape) -> Tensor:
    """Strided slices along `axes`; negative steps run backwards."""
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = x.shape[axis]
        if step > 0:
            index: list[slice] = [slice(None)] * (axis % x.ndim)
            x = x[(*index, slice(start, end, step))]
        else:
            picks = range(*slice(start, None if end < -size else end, step).indices(size))
            x = x.index_select(axis, torch.tensor(list(picks), device=x.device))
    return x


def gather(x: Tensor, index: Tensor, dim: int) -> Tensor:
    """Rows of `x` along `dim`; negative indices count from the end."""
    size = x.shape[dim]
    flat = torch.where(index < 0, index + size, index).reshape(-1).long()
    picked = x.index_select(dim, flat)
    return picked.reshape(*x.shape[:dim], *index.shape, *x.shape[dim + 1 :])


def squeeze(x: Tensor, dims: Shape) -> Tensor:
    """Removes axes of length 1."""
    return torch.squeeze(x, dims)


def unsqueeze(x: Tensor, dims: Shape) -> Tensor:
    """Inserts axes of length 1 at these (ascending) places of the result."""
    for dim in dims:
        x = x.unsqueeze(dim)
    return x


def _reshape(node: gs.Node) -> Call:
    ends = {"before": shape(node.inputs[0]), "after": shape(node.outputs[0])}
    return Call(reshape, kwargs=ends)


def _expand(node: gs.Node) -> Call:
    ends = {"before": shape(node.inputs[0]), "after": shape(node.outputs[0])}
    return Call(expand, kwargs=ends)


def _concat(node: gs.Node) -> Call:
    return Call(concat, tuple(range(len(node.inputs))), {"dim": node.attrs["axis"]})


def _split(node: gs.Node) -> Call:
    axis = node.attrs.get("axis", 0)
    sizes = [shape(out)[axis] for out in node.outputs]
    kwargs = {"split_size_or_sections": sizes, "dim": axis}
    return Call(torch.split, kwargs=kwargs, many=True)


def _slice(node: gs.Node) -> Call:
    starts, ends = integers(node, 1, "starts") or [], integers(node, 2, "ends") or []
    axes = integers(node, 3, "axes") or list(range(len(starts)))
    steps = integers(node, 4) or [1] * len(starts)
    names = ("starts", "ends", "axes", "steps")
    return Call(
        slices, kwargs=dict(zip(names, map(tuple, (starts, ends, axes, steps)), strict=True))
    )


def _pad(node: gs.Node) -> Call:
    rank = len(node.inputs[0].shape)
    given = integers(node, 1, "pads") or []
    axes = integers(node, 3) or list(range(rank))
    pads = [(0, 0)] * rank
    for i, axis in enumerate(axes):
        pads[axis] = (given[i], given[i + len(axes)])
    mode = _PAD_MODES.get(node.attrs.get("mode", "constant"))
    if mode is None:
        raise unsupported(node, f"the mode {node.attrs['mode']!r} is not supported")
    while mode != "constant" and len(pads) > 1 and pads[0] == (0, 0):
        pads.pop(0)
    kwargs = {"pad": tuple(size for pair in reversed(pads) for size in pair), "mode": mode}
    fill = values(node, 2, "value")
    if mode == "constant" and fill is not None:
        kwargs["value"] = fill.item()
    return Call(F.pad, kwargs=kwargs)


def _transpose(node: gs.Node) -> Call:
    rank = len(node.inputs[0].shape)
    return Call(torch.permute, kwargs={"dims": tuple(node.attrs.get("perm", range(rank)[::-1]))})


def _squeeze(node: gs.Node) -> Call:
    axes = integers(node, 1, "axes")
    return _reshape(node) if axes is None else Call(squeeze, kwargs={"dims": tuple(axes)})


def _unsqueeze(node: gs.Node) -> Call:
    rank = len(node.outputs[0].shape)
    axes = sorted(axis % rank for axis in integers(node, 1, "axes") or [])
    return Call(unsqueeze, kwargs={"dims": tuple(axes)})


def _gather(node: gs.Node) -> Call:
    rank = len(node.inputs[0].shape)
    dim = node.attrs.get("axis", 0) % rank
    if is_constant(node, 1) and node.inputs[1].values.ndim == 0:
        return Call(torch.select, kwargs={"dim": dim, "index": int(node.inputs[1].values)})
    return Call(gather, (0, 1), {"dim": dim})


SHAPING: dict[str, Operator] = {
    "Reshape": _reshape,
    "Flatten": _reshape,
    "Expand": _expand,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Pad": _pad,
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Gather": _gather,
}
