"""How one ONNX node is computed in torch, and how its static arguments are read."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import onnx_graphsurgeon as gs
from torch import nn

from hwprune.errors import UnsupportedModelError

Shape = tuple[int, ...]
Transform = Literal["identity", "transpose"]


@dataclass(frozen=True, slots=True)
class Call:
    """One ONNX node as one torch call.

    `inputs` are the node's inputs that stay tensors, by index, in the order of `target`'s
    arguments; everything else is static and stands in `kwargs`. A module's parameters and buffers
    come from the initializers in `weights`: attribute -> (input index, transform). `pad` and
    `crop` are `torch.nn.functional.pad` lists for the first input and for the output. `many`
    says that the result is a tuple, one tensor per output of the node.
    """

    target: Callable[..., Any] | nn.Module
    inputs: tuple[int, ...] = (0,)
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, tuple[int, Transform]] = field(default_factory=dict)
    pad: Shape = ()
    crop: Shape = ()
    many: bool = False


Operator = Callable[[gs.Node], Call]


def unsupported(node: gs.Node, why: str, hint: str = "") -> UnsupportedModelError:
    """The error for a node that has no torch twin."""
    return UnsupportedModelError(
        f"node {node.name!r} ({node.op}): {why}",
        hint or "replace it before the export, or cut the model there and keep that part outside",
    )


def shape(tensor: gs.Tensor) -> Shape:
    """The static shape of a tensor."""
    return tuple(int(size) for size in tensor.shape)


def present(node: gs.Node, index: int) -> bool:
    """Whether an optional input is given."""
    return index < len(node.inputs) and not node.inputs[index].is_empty()


def is_constant(node: gs.Node, index: int) -> bool:
    """Whether an input is given as an initializer."""
    return present(node, index) and isinstance(node.inputs[index], gs.Constant)


def values(node: gs.Node, index: int, attribute: str = "") -> np.ndarray[Any, Any] | None:
    """A static argument: input `index`, else the attribute (older opsets), else None.

    Raises:
        UnsupportedModelError: The input depends on the data.
    """
    if present(node, index):
        if not is_constant(node, index):
            raise unsupported(node, f"input {index} ({node.inputs[index].name!r}) is not constant")
        return np.asarray(node.inputs[index].values)
    return np.asarray(node.attrs[attribute]) if attribute in node.attrs else None


def integers(node: gs.Node, index: int, attribute: str = "") -> list[int] | None:
    """As `values`, as a list of ints."""
    found = values(node, index, attribute)
    return None if found is None else [int(v) for v in found.reshape(-1)]


def spatial_attributes(node: gs.Node, dims: int) -> tuple[Shape, Shape]:
    """Strides and dilations."""
    strides = node.attrs.get("strides") or [1] * dims
    dilations = node.attrs.get("dilations") or [1] * dims
    return tuple(strides), tuple(dilations)


def spatial_pads(node: gs.Node, kernel: Shape) -> tuple[Shape, Shape]:
    """Padding before and after each spatial axis, `auto_pad` and `ceil_mode` resolved."""
    dims = len(kernel)
    strides, dilations = spatial_attributes(node, dims)
    mode = node.attrs.get("auto_pad", "NOTSET")
    given = tuple(node.attrs.get("pads") or [0] * (2 * dims))
    begin, end = given[:dims], given[dims:]
    if mode == "VALID":
        begin = end = (0,) * dims
    elif mode != "NOTSET":
        sizes = shape(node.inputs[0])[2:]
        totals = [
            max((math.ceil(n / s) - 1) * s + d * (k - 1) + 1 - n, 0)
            for n, s, d, k in zip(sizes, strides, dilations, kernel, strict=True)
        ]
        small, large = tuple(t // 2 for t in totals), tuple(t - t // 2 for t in totals)
        begin, end = (large, small) if mode == "SAME_LOWER" else (small, large)
    return begin, end


def pad_list(begin: Shape, end: Shape) -> Shape:
    """ONNX's begins and ends in torch's order: last axis first."""
    pairs = list(zip(begin, end, strict=True))
    return tuple(size for pair in reversed(pairs) for size in pair)
