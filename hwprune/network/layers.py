"""Operators with weights as the torch modules that trainers and quantisers know."""

from collections.abc import Callable, Mapping

import onnx_graphsurgeon as gs
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwprune.network.call import (
    Call,
    Operator,
    Shape,
    Transform,
    is_constant,
    pad_list,
    present,
    shape,
    spatial_attributes,
    spatial_pads,
    unsupported,
)

_Modules = Mapping[int, Callable[..., nn.Module]]

_CONV: _Modules = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_CONV_TRANSPOSE: _Modules = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_BATCH_NORM: _Modules = {0: nn.BatchNorm1d, 1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def gemm(
    a: Tensor, b: Tensor, c: Tensor | None, alpha: float, beta: float, flip: tuple[bool, bool]
) -> Tensor:
    """`alpha * A @ B + beta * C`, with A or B transposed first where `flip` says so."""
    product = alpha * ((a.mT if flip[0] else a) @ (b.mT if flip[1] else b))
    return product if c is None else product + beta * c


def layer_norm(
    x: Tensor, scale: Tensor, bias: Tensor | None, axes: tuple[int, ...], eps: float
) -> Tensor:
    """Normalises over the trailing `axes`; the statistics follow the real shape."""
    normalised = F.layer_norm(x, x.shape[axes[0] :], eps=eps) * scale
    return normalised if bias is None else normalised + bias


def _spatial_dims(node: gs.Node, known: _Modules) -> int:
    if not is_constant(node, 1):
        raise unsupported(node, "its weight is not a constant")
    dims = len(node.inputs[1].shape) - 2
    if dims not in known:
        raise unsupported(node, f"{dims} spatial axes are not supported")
    return dims


def _weights(node: gs.Node) -> dict[str, tuple[int, Transform]]:
    if present(node, 2) and not is_constant(node, 2):
        raise unsupported(node, "its bias is not a constant")
    weights: dict[str, tuple[int, Transform]] = {"weight": (1, "identity")}
    return weights | ({"bias": (2, "identity")} if present(node, 2) else {})


def _conv(node: gs.Node) -> Call:
    dims = _spatial_dims(node, _CONV)
    out, inner, *kernel = shape(node.inputs[1])
    strides, dilations = spatial_attributes(node, dims)
    begin, end = spatial_pads(node, tuple(kernel))
    groups = node.attrs.get("group", 1)
    module = _CONV[dims](
        inner * groups,
        out,
        tuple(kernel),
        strides,
        begin if begin == end else 0,
        dilations,
        groups,
        bias=present(node, 2),
        device="meta",
    )
    pad = () if begin == end else pad_list(begin, end)
    return Call(module, weights=_weights(node), pad=pad)


def _conv_transpose(node: gs.Node) -> Call:
    dims = _spatial_dims(node, _CONV_TRANSPOSE)
    inner, per_group, *kernel = shape(node.inputs[1])
    strides, dilations = spatial_attributes(node, dims)
    extra = tuple(node.attrs.get("output_padding") or [0] * dims)
    begin, end = _transposed_pads(node, tuple(kernel), extra)
    groups = node.attrs.get("group", 1)
    module = _CONV_TRANSPOSE[dims](
        inner,
        per_group * groups,
        tuple(kernel),
        strides,
        begin if begin == end else 0,
        extra,
        groups,
        bias=present(node, 2),
        dilation=dilations,
        device="meta",
    )
    crop = () if begin == end else tuple(-size for size in pad_list(begin, end))
    return Call(module, weights=_weights(node), crop=crop)


def _transposed_pads(node: gs.Node, kernel: Shape, extra: Shape) -> tuple[Shape, Shape]:
    """What is cut off before and after each axis, from the output size where that is given."""
    dims = len(kernel)
    if node.attrs.get("auto_pad", "NOTSET") == "NOTSET" and "output_shape" not in node.attrs:
        pads = tuple(node.attrs.get("pads") or [0] * (2 * dims))
        return pads[:dims], pads[dims:]
    strides, dilations = spatial_attributes(node, dims)
    sizes, wanted = shape(node.inputs[0])[2:], shape(node.outputs[0])[2:]
    totals = [
        (n - 1) * s + d * (k - 1) + 1 + e - w
        for n, s, d, k, e, w in zip(sizes, strides, dilations, kernel, extra, wanted, strict=True)
    ]
    small, large = tuple(t // 2 for t in totals), tuple(t - t // 2 for t in totals)
    return (small, large) if node.attrs.get("auto_pad") == "SAME_UPPER" else (large, small)


def _linear(node: gs.Node, weight_transform: Transform, bias: bool) -> Call:
    columns = shape(node.inputs[1])
    out, inner = columns if weight_transform == "identity" else columns[::-1]
    weights: dict[str, tuple[int, Transform]] = {"weight": (1, weight_transform)}
    if bias:
        weights["bias"] = (2, "identity")
    return Call(nn.Linear(inner, out, bias=bias, device="meta"), weights=weights)


def _gemm(node: gs.Node) -> Call:
    attrs = node.attrs
    alpha, beta = attrs.get("alpha", 1.0), attrs.get("beta", 1.0)
    flip = (bool(attrs.get("transA", 0)), bool(attrs.get("transB", 0)))
    bias = present(node, 2)
    if alpha == 1 and not flip[0] and _is_plain_weight(node) and (not bias or _is_bias(node, beta)):
        return _linear(node, "identity" if flip[1] else "transpose", bias)
    kwargs = {"alpha": alpha, "beta": beta, "flip": flip} | ({} if bias else {"c": None})
    return Call(gemm, (0, 1, 2) if bias else (0, 1), kwargs)


def _matmul(node: gs.Node) -> Call:
    if _is_plain_weight(node) and len(node.inputs[0].shape) > 1:
        return _linear(node, "transpose", bias=False)
    return Call(torch.matmul, (0, 1))


def _is_plain_weight(node: gs.Node) -> bool:
    """A constant matrix on the right that nobody reads in another orientation."""
    if not is_constant(node, 1) or is_constant(node, 0) or len(node.inputs[1].shape) != 2:
        return False
    readings = {
        (other.op in ("Gemm", "MatMul"), other.attrs.get("transB", 0))
        for other in node.inputs[1].outputs
    }
    return len(readings) == 1


def _is_bias(node: gs.Node, beta: float) -> bool:
    columns = shape(node.outputs[0])[-1]
    return (
        beta == 1
        and is_constant(node, 2)
        and shape(node.inputs[2])[-1:] == (columns,)
        and (node.inputs[2].values.size == columns)
    )


def batch_norm_in_training(
    x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor, eps: float, momentum: float
) -> tuple[Tensor, Tensor, Tensor]:
    """By the statistics of this batch; and what the running ones become."""
    axes = [axis for axis in range(x.ndim) if axis != 1]
    found = x.mean(axes), x.var(axes, correction=0)
    y = F.batch_norm(x, *found, scale, bias, False, 0.0, eps)
    mean, var = (
        old * momentum + new * (1 - momentum) for old, new in zip((mean, var), found, strict=True)
    )
    return y, mean, var


def _batch_norm(node: gs.Node) -> Call:
    if node.attrs.get("training_mode", 0):
        eps, momentum = node.attrs.get("epsilon", 1e-5), node.attrs.get("momentum", 0.9)
        kwargs = {"eps": eps, "momentum": momentum}
        return Call(batch_norm_in_training, tuple(range(5)), kwargs, many=True)
    if not all(is_constant(node, i) for i in range(1, 5)):
        raise unsupported(node, "only inference with constant statistics is supported")
    channels = shape(node.inputs[1])[0]
    module = _BATCH_NORM[max(len(node.inputs[0].shape) - 2, 0)](
        channels,
        eps=node.attrs.get("epsilon", 1e-5),
        momentum=1 - node.attrs.get("momentum", 0.9),
        device="meta",
    )
    names = ("weight", "bias", "running_mean", "running_var")
    return Call(module, weights={name: (i, "identity") for i, name in enumerate(names, 1)})


def layer_norm_statistics(
    x: Tensor, scale: Tensor, bias: Tensor | None, axes: tuple[int, ...], eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """As `layer_norm`, with the means and the inverse standard deviations."""
    mean = x.mean(axes, keepdim=True)
    deviation = torch.rsqrt(x.var(axes, correction=0, keepdim=True) + eps)
    return layer_norm(x, scale, bias, axes, eps), mean, deviation


def rms_norm(x: Tensor, scale: Tensor, axes: tuple[int, ...], eps: float) -> Tensor:
    """Divides by the root of the mean square over the trailing `axes`."""
    return x * torch.rsqrt(x.square().mean(axes, keepdim=True) + eps) * scale


def lp_norm(x: Tensor, dim: int, p: int) -> Tensor:
    """Divides by the p-norm along `dim`; where that is zero, zero stays."""
    norm = torch.linalg.vector_norm(x, p, dim, keepdim=True)
    return torch.where(norm == 0, torch.zeros_like(x), x / norm)


def local_response_norm(x: Tensor, size: int, alpha: float, beta: float, bias: float) -> Tensor:
    """Divides by a power of the squares of the neighbouring channels."""
    front = (size - 1) // 2
    squares = F.pad(x.square().movedim(1, -1), (front, size - 1 - front))
    total = squares.unfold(-1, size, 1).sum(-1).movedim(-1, 1)
    return x / (bias + alpha / size * total) ** beta


def _trailing(node: gs.Node) -> dict[str, object]:
    rank = len(node.inputs[0].shape)
    first = node.attrs.get("axis", -1) % rank
    return {"axes": tuple(range(first, rank)), "eps": node.attrs.get("epsilon", 1e-5)}


def _layer_norm(node: gs.Node) -> Call:
    many = len(node.outputs) > 1
    function = layer_norm_statistics if many else layer_norm
    if present(node, 2):
        return Call(function, (0, 1, 2), _trailing(node), many=many)
    return Call(function, (0, 1), _trailing(node) | {"bias": None}, many=many)


def _rms_norm(node: gs.Node) -> Call:
    return Call(rms_norm, (0, 1), _trailing(node))


def _lp_norm(node: gs.Node) -> Call:
    return Call(lp_norm, kwargs={"dim": node.attrs.get("axis", -1), "p": node.attrs.get("p", 2)})


def _local_response_norm(node: gs.Node) -> Call:
    defaults = {"alpha": 1e-4, "beta": 0.75, "bias": 1.0}
    kwargs = {name: node.attrs.get(name, value) for name, value in defaults.items()}
    return Call(local_response_norm, kwargs={"size": node.attrs["size"], **kwargs})


def instance_norm(x: Tensor, scale: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Normalises every channel of every sample over its spatial axes."""
    return F.instance_norm(x, weight=scale, bias=bias, eps=eps)


def _instance_norm(node: gs.Node) -> Call:
    return Call(instance_norm, (0, 1, 2), {"eps": node.attrs.get("epsilon", 1e-5)})


LAYERS: dict[str, Operator] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "InstanceNormalization": _instance_norm,
    "RMSNormalization": _rms_norm,
    "LpNormalization": _lp_norm,
    "LRN": _local_response_norm,
}
