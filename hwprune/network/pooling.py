"""Pooling and reductions."""

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


def average_pool(
    x: Tensor, kernel: Shape, stride: Shape, pad: Shape, extra: Shape, count_pad: bool
) -> Tensor:
    """Average pooling; `pad` as given, `extra` what `ceil_mode` adds and never counts."""
    pool = _AVERAGE[len(kernel)]
    if not any(pad) and not any(extra):
        return pool(x, kernel, stride)
    ones = F.pad(x.new_ones(1, 1, *x.shape[2:]), pad, value=float(count_pad))
    share = pool(F.pad(ones, extra), kernel, stride)
    return pool(F.pad(F.pad(x, pad), extra), kernel, stride) / share


def max_pool(x: Tensor, kernel: Shape, stride: Shape, dilation: Shape, pad: Shape) -> Tensor:
    """Max pooling with any padding."""
    padded = F.pad(x, pad, value=-torch.inf) if any(pad) else x
    return _MAX[len(kernel)](padded, kernel, stride, 0, dilation)


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


def argmax(x: Tensor, axes: Shape, keepdim: bool) -> Tensor:
    """Index of the first maximum along the one axis in `axes`."""
    return torch.argmax(x, axes[0], keepdim)


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
    if len(kernel) not in _AVERAGE or set(dilation) != {1}:
        raise unsupported(node, "dilated averages and more than three axes are not supported")
    begin, end = spatial_pads(node, kernel)
    extra = pad_list((0,) * len(kernel), _ceil_extra(node, kernel, begin, end))
    kwargs = {"kernel": kernel, "stride": stride, "pad": pad_list(begin, end), "extra": extra}
    return Call(
        average_pool, kwargs=kwargs | {"count_pad": bool(node.attrs.get("count_include_pad", 0))}
    )


def _max_pool(node: gs.Node) -> Call:
    kernel = tuple(node.attrs["kernel_shape"])
    if len(kernel) not in _MAX:
        raise unsupported(node, "more than three axes are not supported")
    stride, dilation = spatial_attributes(node, len(kernel))
    begin, end = spatial_pads(node, kernel)
    extra = _ceil_extra(node, kernel, begin, end)
    pad = pad_list(begin, tuple(a + b for a, b in zip(end, extra, strict=True)))
    kwargs = {"kernel": kernel, "stride": stride, "dilation": dilation, "pad": pad}
    return Call(max_pool, kwargs=kwargs)


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


def _argmax(node: gs.Node) -> Call:
    if node.attrs.get("select_last_index", 0):
        raise unsupported(node, "select_last_index is not supported")
    axes, keepdim = (node.attrs.get("axis", 0),), bool(node.attrs.get("keepdims", 1))
    return Call(argmax, kwargs={"axes": axes, "keepdim": keepdim})


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
    "ArgMax": _argmax,
}
