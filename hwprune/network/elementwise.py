"""Activations and arithmetic."""

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import torch
import torch.nn.functional as F
from torch import Tensor

from hwprune.network.call import Call, Operator, unsupported, values


def prelu(x: Tensor, slope: Tensor) -> Tensor:
    """`x` where positive, else `slope * x`; `slope` broadcasts against `x` as in ONNX."""
    return torch.where(x >= 0, x, slope * x)


def hard_sigmoid(x: Tensor, alpha: float, beta: float) -> Tensor:
    """`clip(alpha * x + beta, 0, 1)`."""
    return torch.clamp(alpha * x + beta, 0.0, 1.0)


def thresholded_relu(x: Tensor, alpha: float) -> Tensor:
    """`x` where it exceeds `alpha`, else 0."""
    return torch.where(x > alpha, x, torch.zeros_like(x))


def minimum(*tensors: Tensor) -> Tensor:
    """Elementwise minimum of any number of tensors."""
    return reduce(torch.minimum, tensors)


def maximum(*tensors: Tensor) -> Tensor:
    """Elementwise maximum of any number of tensors."""
    return reduce(torch.maximum, tensors)


def total(*tensors: Tensor) -> Tensor:
    """Elementwise sum of any number of tensors."""
    return reduce(torch.add, tensors)


def mean(*tensors: Tensor) -> Tensor:
    """Elementwise mean of any number of tensors."""
    return total(*tensors) / len(tensors)


def celu(x: Tensor, alpha: float) -> Tensor:
    """`max(0, x) + min(0, alpha * (exp(x / alpha) - 1))`."""
    return F.celu(x, alpha)


def selu(x: Tensor, alpha: float, gamma: float) -> Tensor:
    """`gamma * x` where positive, else `gamma * alpha * (exp(x) - 1)`."""
    return gamma * torch.where(x > 0, x, alpha * torch.expm1(torch.clamp(x, max=0.0)))


def swish(x: Tensor, alpha: float) -> Tensor:
    """`x * sigmoid(alpha * x)`."""
    return x * torch.sigmoid(alpha * x)


def hardmax(x: Tensor, dim: int) -> Tensor:
    """One at the first maximum along `dim`, zero elsewhere."""
    return F.one_hot(x.argmax(dim), x.shape[dim]).movedim(-1, dim).to(x.dtype)


def is_inf(x: Tensor, negative: bool, positive: bool) -> Tensor:
    """Where `x` is an infinity of a sign that is asked for."""
    return (torch.isneginf(x) & negative) | (torch.isposinf(x) & positive)


def _mod(node: gs.Node) -> Call:
    """Sign of the divisor, or with `fmod` that of the dividend."""
    return Call(torch.fmod if node.attrs.get("fmod", 0) else torch.remainder, (0, 1))


def _is_inf(node: gs.Node) -> Call:
    signs = {s: bool(node.attrs.get(f"detect_{s}", 1)) for s in ("negative", "positive")}
    return Call(is_inf, kwargs=signs)


def _plain(function: Callable[..., Any], count: int = 1) -> Operator:
    return lambda node: Call(function, tuple(range(count)))


def _variadic(function: Callable[..., Any]) -> Operator:
    return lambda node: Call(function, tuple(range(len(node.inputs))))


def _with(function: Callable[..., Any], **defaults: tuple[str, Any]) -> Operator:
    """An operator whose torch arguments are ONNX attributes: argument=(attribute, default)."""

    def operator(node: gs.Node) -> Call:
        kwargs = {arg: node.attrs.get(name, value) for arg, (name, value) in defaults.items()}
        return Call(function, kwargs=kwargs)

    return operator


def _clip(node: gs.Node) -> Call:
    limits = {"min": values(node, 1, "min"), "max": values(node, 2, "max")}
    kwargs = {name: limit.item() for name, limit in limits.items() if limit is not None}
    return Call(torch.clamp if kwargs else torch.clone, kwargs=kwargs)


def _div(node: gs.Node) -> Call:
    whole = np.issubdtype(node.outputs[0].dtype, np.integer)
    return Call(torch.div, (0, 1), {"rounding_mode": "trunc"} if whole else {})


def _cast(node: gs.Node) -> Call:
    kind = onnx.helper.tensor_dtype_to_np_dtype(int(node.attrs["to"]))
    if kind.kind not in "biuf":
        raise unsupported(node, f"there is no torch type for {kind}")
    return Call(torch.Tensor.to, kwargs={"dtype": torch.from_numpy(np.empty(0, kind)).dtype})


ELEMENTWISE: dict[str, Operator] = {
    "Relu": _plain(torch.relu),
    "Sigmoid": _plain(torch.sigmoid),
    "Tanh": _plain(torch.tanh),
    "Erf": _plain(torch.erf),
    "HardSwish": _plain(F.hardswish),
    "Softplus": _plain(F.softplus),
    "Softsign": _plain(F.softsign),
    "Mish": _plain(F.mish),
    "Exp": _plain(torch.exp),
    "Log": _plain(torch.log),
    "Sqrt": _plain(torch.sqrt),
    "Reciprocal": _plain(torch.reciprocal),
    "Abs": _plain(torch.abs),
    "Neg": _plain(torch.neg),
    "Sin": _plain(torch.sin),
    "Cos": _plain(torch.cos),
    "Tan": _plain(torch.tan),
    "Asin": _plain(torch.asin),
    "Acos": _plain(torch.acos),
    "Atan": _plain(torch.atan),
    "Sinh": _plain(torch.sinh),
    "Cosh": _plain(torch.cosh),
    "Asinh": _plain(torch.asinh),
    "Acosh": _plain(torch.acosh),
    "Atanh": _plain(torch.atanh),
    "Sign": _plain(torch.sign),
    "Round": _plain(torch.round),
    "IsNaN": _plain(torch.isnan),
    "IsInf": _is_inf,
    "Floor": _plain(torch.floor),
    "Ceil": _plain(torch.ceil),
    "Identity": _plain(torch.clone),
    "Not": _plain(torch.logical_not),
    "PRelu": _plain(prelu, 2),
    "Add": _plain(torch.add, 2),
    "Sub": _plain(torch.sub, 2),
    "Mul": _plain(torch.mul, 2),
    "Pow": _plain(torch.pow, 2),
    "Equal": _plain(torch.eq, 2),
    "Greater": _plain(torch.gt, 2),
    "GreaterOrEqual": _plain(torch.ge, 2),
    "Less": _plain(torch.lt, 2),
    "LessOrEqual": _plain(torch.le, 2),
    "And": _plain(torch.logical_and, 2),
    "Or": _plain(torch.logical_or, 2),
    "Xor": _plain(torch.logical_xor, 2),
    "Mod": _mod,
    "Where": _plain(torch.where, 3),
    "Min": _variadic(minimum),
    "Max": _variadic(maximum),
    "Sum": _variadic(total),
    "Mean": _variadic(mean),
    "LeakyRelu": _with(F.leaky_relu, negative_slope=("alpha", 0.01)),
    "Elu": _with(F.elu, alpha=("alpha", 1.0)),
    "Celu": _with(celu, alpha=("alpha", 1.0)),
    "Selu": _with(
        selu, alpha=("alpha", 1.67326319217681884765625), gamma=("gamma", 1.05070102214813232421875)
    ),
    "Swish": _with(swish, alpha=("alpha", 1.0)),
    "Hardmax": _with(hardmax, dim=("axis", -1)),
    "Gelu": _with(F.gelu, approximate=("approximate", "none")),
    "HardSigmoid": _with(hard_sigmoid, alpha=("alpha", 0.2), beta=("beta", 0.5)),
    "ThresholdedRelu": _with(thresholded_relu, alpha=("alpha", 1.0)),
    "Softmax": _with(torch.softmax, dim=("axis", -1)),
    "LogSoftmax": _with(torch.log_softmax, dim=("axis", -1)),
    "Clip": _clip,
    "Div": _div,
    "Cast": _cast,
}
