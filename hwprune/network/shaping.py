"""Operators that move values without computing any.

The graph's shapes are static, the twin's batch is not: `Reshape`, `Expand` and `Concat` follow the
batch that really comes in.
"""

import math
from collections.abc import Callable
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

_REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}
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
        if after[own] == 1 and (own < len(after) - 1 or axis == len(before) - 1):
            return own  # what lies behind the batch still lies behind it
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


def gather_elements(x: Tensor, index: Tensor, dim: int) -> Tensor:
    """One value of `x` along `dim` for each position of `index`; negative ones from the end."""
    return torch.gather(x, dim, torch.where(index < 0, index + x.shape[dim], index).long())


def gather_nd(x: Tensor, index: Tensor, batch_dims: int) -> Tensor:
    """Slices of `x` at the places that the last axis of `index` names, batch by batch."""
    count, depth = math.prod(x.shape[:batch_dims]), index.shape[-1]
    data = x.reshape(count, *x.shape[batch_dims:])
    places = _from_start(index, data.shape[1 : depth + 1]).reshape(count, -1, depth)
    rows = torch.arange(count, device=x.device)[:, None]
    found = data[(rows, *places.unbind(-1))]
    return found.reshape(*index.shape[:-1], *x.shape[batch_dims + depth :])


def scatter_elements(x: Tensor, index: Tensor, updates: Tensor, dim: int, reduction: str) -> Tensor:
    """`x` with `updates` put (or added, multiplied...) at the places of `index` along `dim`."""
    places = torch.where(index < 0, index + x.shape[dim], index).long()
    if reduction == "none":
        return x.scatter(dim, places, updates)
    return x.scatter_reduce(dim, places, updates, _REDUCTIONS[reduction])


def scatter_nd(x: Tensor, index: Tensor, updates: Tensor, reduction: str) -> Tensor:
    """`x` with slices put at, or reduced into, the places that the last axis of `index` names."""
    sizes = x.shape[: index.shape[-1]]
    places = _from_start(index, sizes)
    if reduction == "none":
        return x.index_put(places.unbind(-1), updates)
    strides = [math.prod(sizes[i + 1 :]) for i in range(len(sizes))]
    row = (places * places.new_tensor(strides)).sum(-1).reshape(-1, 1)
    flat, values = x.reshape(math.prod(sizes), -1), updates.reshape(len(row), -1)
    return flat.scatter_reduce(0, row.expand_as(values), values, _REDUCTIONS[reduction]).reshape(
        x.shape
    )


def depth_to_space(x: Tensor, block: int, columns_first: bool) -> Tensor:
    """Blocks of channels become pixels; in order depth, column, row or column, row, depth."""
    if columns_first:
        return F.pixel_shuffle(x, block)
    n, c, h, w = x.shape
    grid = x.reshape(n, block, block, c // block**2, h, w)
    return grid.permute(0, 3, 4, 1, 5, 2).reshape(n, c // block**2, h * block, w * block)


def space_to_depth(x: Tensor, block: int, columns_first: bool) -> Tensor:
    """Blocks of pixels become channels: the inverse of `depth_to_space`."""
    n, c, h, w = x.shape
    grid = x.reshape(n, c, h // block, block, w // block, block)
    order = (0, 1, 3, 5, 2, 4) if columns_first else (0, 3, 5, 1, 2, 4)
    return grid.permute(order).reshape(n, c * block**2, h // block, w // block)


def tile(x: Tensor, repeats: Shape) -> Tensor:
    """Repeats the whole along each axis."""
    return x.repeat(repeats)


def top_k(x: Tensor, count: int, dim: int, largest: bool) -> tuple[Tensor, Tensor]:
    """The largest (or smallest) values in order, and their places; of equals the first."""
    values, places = torch.sort(x, dim=dim, descending=largest, stable=True)
    return values.narrow(dim, 0, count), places.narrow(dim, 0, count)


def einsum(*tensors: Tensor, equation: str) -> Tensor:
    """Einstein's sum."""
    return torch.einsum(equation, *tensors)


def _from_start(index: Tensor, sizes: Shape) -> Tensor:
    lengths = torch.tensor(sizes, device=index.device)
    return torch.where(index < 0, index + lengths, index).long()


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


def _gather_elements(node: gs.Node) -> Call:
    return Call(gather_elements, (0, 1), {"dim": node.attrs.get("axis", 0)})


def _gather_nd(node: gs.Node) -> Call:
    return Call(gather_nd, (0, 1), {"batch_dims": node.attrs.get("batch_dims", 0)})


def _scatter_elements(node: gs.Node) -> Call:
    reduction = node.attrs.get("reduction", "none")
    return Call(
        scatter_elements, (0, 1, 2), {"dim": node.attrs.get("axis", 0), "reduction": reduction}
    )


def _scatter_nd(node: gs.Node) -> Call:
    reduction = node.attrs.get("reduction", "none")
    return Call(scatter_nd, (0, 1, 2), {"reduction": reduction})


def _blocks(function: Callable[..., Tensor]) -> Operator:
    def operator(node: gs.Node) -> Call:
        columns_first = node.attrs.get("mode", "DCR") == "CRD"
        kwargs = {"block": node.attrs["blocksize"], "columns_first": columns_first}
        return Call(function, kwargs=kwargs)

    return operator


def _tile(node: gs.Node) -> Call:
    return Call(tile, kwargs={"repeats": tuple(integers(node, 1) or ())})


def _trilu(node: gs.Node) -> Call:
    (diagonal,) = integers(node, 1) or [0]
    upper = bool(node.attrs.get("upper", 1))
    return Call(torch.triu if upper else torch.tril, kwargs={"diagonal": diagonal})


def _einsum(node: gs.Node) -> Call:
    inputs = tuple(range(len(node.inputs)))
    return Call(einsum, inputs, {"equation": str(node.attrs["equation"]).replace(" ", "")})


def _top_k(node: gs.Node) -> Call:
    (count,) = integers(node, 1) or [1]
    kwargs = {"count": count, "dim": node.attrs.get("axis", -1)}
    largest = bool(node.attrs.get("largest", 1))
    return Call(top_k, kwargs=kwargs | {"largest": largest}, many=True)


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
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
    "DepthToSpace": _blocks(depth_to_space),
    "SpaceToDepth": _blocks(space_to_depth),
    "Tile": _tile,
    "Trilu": _trilu,
    "Einsum": _einsum,
    "TopK": _top_k,
}
