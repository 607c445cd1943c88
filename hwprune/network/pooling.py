"""Pooling and reductions."""

import math
from collections.abc import Callable
from typing import Any

import onnx_graphsurgeon as gs
import torch
import torch.nn.functional as F
from torch import Tensor

from hwprune.network.call import (
    Call,
    Operator,
    Shape,
    integers,
    pad_list,
    shape,
    spatial_attributes,
    spatial_pads,
    unsupported,
)

_AVERAGE: dict[int, Callable[..., Tensor]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
_MAX: dict[int, Callable[..., Tensor]] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


_CONV: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def average_pool(
    x: Tensor,
    kernel: Shape,
    stride: Shape,
    dilation: Shape,
    pad: Shape,
    extra: Shape,
    count_pad: bool,
) -> Tensor:
    """Average pooling; `pad` as given, `extra` what `ceil_mode` adds and never counts."""
    pool = _dilated(dilation) if set(dilation) != {1} else _AVERAGE[len(kernel)]
    if not any(pad) and not any(extra):
        return pool(x, kernel, stride)
    ones = F.pad(x.new_ones(1, 1, *x.shape[2:]), pad, value=float(count_pad))
    share = pool(F.pad(ones, extra), kernel, stride)
    return pool(F.pad(F.pad(x, pad), extra), kernel, stride) / share


def _dilated(dilation: Shape) -> Callable[..., Tensor]:
    """Averages of windows with gaps, as a convolution of each channel by itself."""

    def pool(x: Tensor, kernel: Shape, stride: Shape) -> Tensor:
        each = x.flatten(0, 1).unsqueeze(1)
        ones = x.new_full((1, 1, *kernel), 1.0 / math.prod(kernel))
        means = _CONV[len(kernel)](each, ones, None, stride, 0, dilation)
        return means.reshape(*x.shape[:2], *means.shape[2:])

    return pool


def max_pool(x: Tensor, kernel: Shape, stride: Shape, dilation: Shape, pad: Shape) -> Tensor:
    """Max pooling with any padding."""
    padded = F.pad(x, pad, value=-torch.inf) if any(pad) else x
    return _MAX[len(kernel)](padded, kernel, stride, 0, dilation)


def max_pool_places(
    x: Tensor,
    kernel: Shape,
    stride: Shape,
    dilation: Shape,
    pad: Shape,
    columns_first: bool,
) -> tuple[Tensor, Tensor]:
    """Max pooling, and where in the flat `x` each maximum was found."""
    padded = F.pad(x, pad, value=-torch.inf) if any(pad) else x
    found, places = _MAX[len(kernel)](padded, kernel, stride, 0, dilation, return_indices=True)
    sizes, front = x.shape[2:], pad[::2][::-1]
    at = torch.unravel_index(places, padded.shape[2:])
    inside = [a - begin for a, begin in zip(at, front, strict=True)]
    order = range(len(sizes)) if columns_first else reversed(range(len(sizes)))
    flat, step = torch.zeros_like(places), 1
    for axis in order:
        flat, step = flat + inside[axis] * step, step * sizes[axis]
    channel = torch.arange(x.shape[0] * x.shape[1], device=x.device).reshape(*x.shape[:2])
    return found, flat + step * channel[(..., *[None] * len(sizes))]


def reduce_sum(x: Tensor, axes: Shape, keepdim: bool) -> Tensor:
    """Sum over `axes`."""
    return torch.sum(x, axes, keepdim)


def reduce_mean(x: Tensor, axes: Shape, keepdim: bool) -> Tensor:
    """Mean over `axes`."""
    return torch.mean(x, axes, keepdim)


def reduce_max(x: Tensor, axes: Shape, keepdim: bool) -> Tensor:
    """Maximum over `axes`."""
    return torch.amax(x, axes, keepdim)


def reduce_min(x: Tensor, axes: Shape, keepdim: bool) -> Tensor:
    """Minimum over `axes`."""
    return torch.amin(x, axes, keepdim)


def reduce_l2(x: Tensor, axes: Shape, keepdim: bool) -> Tensor:
    """Euclidean norm over `axes`."""
    return torch.sqrt(torch.sum(x * x, axes, keepdim))


def reduce_prod(x: Tensor, axes: Shape, keepdim: bool) -> Tensor:
    """Product over `axes`."""
    for axis in sorted((a % x.ndim for a in axes), reverse=True):
        x = torch.prod(x, axis, keepdim)
    return x


def reduce_l1(x: Tensor, axes: Shape, keepdim: bool) -> Tensor:
    """Sum of magnitudes over `axes`."""
    return torch.sum(torch.abs(x), axes, keepdim)


def reduce_log_sum(x: Tensor, axes: Shape, keepdim: bool) -> Tensor:
    """Logarithm of the sum over `axes`."""
    return torch.log(torch.sum(x, axes, keepdim))


def reduce_log_sum_exp(x: Tensor, axes: Shape, keepdim: bool) -> Tensor:
    """Logarithm of the sum of exponentials over `axes`."""
    return torch.logsumexp(x, axes, keepdim)


def reduce_sum_square(x: Tensor, axes: Shape, keepdim: bool) -> Tensor:
    """Sum of squares over `axes`."""
    return torch.sum(x * x, axes, keepdim)


def extreme(x: Tensor, axes: Shape, keepdim: bool, last: bool, least: bool) -> Tensor:
    """Index of the first (or last) maximum (or minimum) along the one axis in `axes`."""
    find = torch.argmin if least else torch.argmax
    if not last:
        return find(x, axes[0], keepdim)
    return x.shape[axes[0]] - 1 - find(torch.flip(x, axes), axes[0], keepdim)


def cumulative_sum(x: Tensor, dim: int, exclusive: bool, reverse: bool) -> Tensor:
    """Running sums along `dim`; `exclusive` leaves out the position itself."""
    x = torch.flip(x, (dim,)) if reverse else x
    sums = torch.cumsum(x, dim)
    sums = sums - x if exclusive else sums
    return torch.flip(sums, (dim,)) if reverse else sums


def _ceil_extra(node: gs.Node, kernel: Shape, begin: Shape, end: Shape) -> Shape:
    """What must be added behind the padding for the last window of `ceil_mode`."""
    strides, dilations = spatial_attributes(node, len(kernel))
    sizes, counts = shape(node.inputs[0])[2:], shape(node.outputs[0])[2:]
    return tuple(
        max((c - 1) * s + d * (k - 1) + 1 - (b + n + e), 0)
        for c, s, d, k, b, n, e in zip(
            counts, strides, dilations, kernel, begin, sizes, end, strict=True
        )
    )


def _average_pool(node: gs.Node) -> Call:
    kernel = tuple(node.attrs["kernel_shape"])
    stride, dilation = spatial_attributes(node, len(kernel))
    if len(kernel) not in _AVERAGE:
        raise unsupported(node, "more than three axes are not supported")
    begin, end = spatial_pads(node, kernel)
    extra = pad_list((0,) * len(kernel), _ceil_extra(node, kernel, begin, end))
    kwargs = {"kernel": kernel, "stride": stride, "dilation": dilation, "extra": extra}
    count = bool(node.attrs.get("count_include_pad", 0))
    return Call(average_pool, kwargs=kwargs | {"pad": pad_list(begin, end), "count_pad": count})


def _max_pool(node: gs.Node) -> Call:
    kernel = tuple(node.attrs["kernel_shape"])
    if len(kernel) not in _MAX:
        raise unsupported(node, "more than three axes are not supported")
    stride, dilation = spatial_attributes(node, len(kernel))
    begin, end = spatial_pads(node, kernel)
    extra = _ceil_extra(node, kernel, begin, end)
    pad = pad_list(begin, tuple(a + b for a, b in zip(end, extra, strict=True)))
    kwargs = {"kernel": kernel, "stride": stride, "dilation": dilation, "pad": pad}
    if all(extra.is_empty() for extra in node.outputs[1:]):
        return Call(max_pool, kwargs=kwargs)
    columns_first = bool(node.attrs.get("storage_order", 0))
    return Call(max_pool_places, kwargs=kwargs | {"columns_first": columns_first}, many=True)


def _global(function: Callable[..., Any]) -> Operator:
    def operator(node: gs.Node) -> Call:
        axes = tuple(range(2, len(node.inputs[0].shape)))
        return Call(function, kwargs={"axes": axes, "keepdim": True})

    return operator


def _reduce(function: Callable[..., Any]) -> Operator:
    def operator(node: gs.Node) -> Call:
        axes = integers(node, 1, "axes")
        if not axes and node.attrs.get("noop_with_empty_axes", 0):
            return Call(torch.clone)
        axes = axes or list(range(len(node.inputs[0].shape)))
        keepdim = bool(node.attrs.get("keepdims", 1))
        return Call(function, kwargs={"axes": tuple(axes), "keepdim": keepdim})

    return operator


def _extreme(least: bool) -> Operator:
    def operator(node: gs.Node) -> Call:
        axes, keepdim = (node.attrs.get("axis", 0),), bool(node.attrs.get("keepdims", 1))
        last = bool(node.attrs.get("select_last_index", 0))
        kwargs = {"axes": axes, "keepdim": keepdim, "last": last, "least": least}
        return Call(extreme, kwargs=kwargs)

    return operator


def _cumulative_sum(node: gs.Node) -> Call:
    (dim,) = integers(node, 1) or [0]
    flags = {name: bool(node.attrs.get(name, 0)) for name in ("exclusive", "reverse")}
    return Call(cumulative_sum, kwargs={"dim": dim, **flags})


POOLING: dict[str, Operator] = {
    "AveragePool": _average_pool,
    "MaxPool": _max_pool,
    "GlobalAveragePool": _global(reduce_mean),
    "GlobalMaxPool": _global(reduce_max),
    "ReduceMean": _reduce(reduce_mean),
    "ReduceSum": _reduce(reduce_sum),
    "ReduceMax": _reduce(reduce_max),
    "ReduceMin": _reduce(reduce_min),
    "ReduceL2": _reduce(reduce_l2),
    "ReduceL1": _reduce(reduce_l1),
    "ReduceProd": _reduce(reduce_prod),
    "ReduceLogSum": _reduce(reduce_log_sum),
    "ReduceLogSumExp": _reduce(reduce_log_sum_exp),
    "ReduceSumSquare": _reduce(reduce_sum_square),
    "ArgMax": _extreme(least=False),
    "ArgMin": _extreme(least=True),
    "CumSum": _cumulative_sum,
}
