"""`Resize`: nearest in all its roundings, linear as torch has it."""

import numpy as np
import onnx_graphsurgeon as gs
import torch
import torch.nn.functional as F
from torch import Tensor

from hwprune.network.call import Call, Operator, Shape, shape, unsupported, values

_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}
_ALIGN = {"half_pixel": False, "pytorch_half_pixel": False, "align_corners": True}


def nearest(x: Tensor, indices: tuple[tuple[int, ...], ...]) -> Tensor:
    """Picks, for every spatial axis, these source positions."""
    for axis, picks in enumerate(indices, 2):
        x = x.index_select(axis, torch.tensor(picks, device=x.device))
    return x


def linear(x: Tensor, size: Shape, mode: str, align_corners: bool) -> Tensor:
    """Linear interpolation to the spatial `size`."""
    return F.interpolate(x, size, mode=mode, align_corners=align_corners)


def _resize(node: gs.Node) -> Call:
    before, after = shape(node.inputs[0]), shape(node.outputs[0])
    mode = node.attrs.get("mode", "nearest")
    coordinates = node.attrs.get("coordinate_transformation_mode", "half_pixel")
    if before[:2] != after[:2] or node.attrs.get("antialias", 0):
        raise unsupported(node, "only spatial axes can be resized, without antialiasing")
    scales = _scales(node, before, after)
    if mode == "nearest":
        rounding = node.attrs.get("nearest_mode", "round_prefer_floor")
        axes = zip(before[2:], after[2:], scales[2:], strict=True)
        indices = tuple(_picks(node, *axis, coordinates, rounding) for axis in axes)
        return Call(nearest, kwargs={"indices": indices})
    # torch has no special case for a single output position of pytorch_half_pixel.
    single = coordinates == "pytorch_half_pixel" and 1 in after[2:]
    exact = not single and all(round(b * s) == b * s for b, s in zip(before, scales, strict=True))
    if mode != "linear" or coordinates not in _ALIGN or not exact:
        raise unsupported(node, f"mode {mode!r} with {coordinates!r} is not supported")
    kwargs = {"size": after[2:], "mode": _LINEAR[len(after) - 2]}
    return Call(linear, kwargs=kwargs | {"align_corners": _ALIGN[coordinates]})


def _scales(node: gs.Node, before: Shape, after: Shape) -> list[float]:
    given = values(node, 2)
    if given is not None and given.size == len(before):
        return [float(s) for s in given]
    return [a / b for a, b in zip(after, before, strict=True)]


def _picks(
    node: gs.Node, size: int, count: int, scale: float, coordinates: str, rounding: str
) -> tuple[int, ...]:
    """Source index of each of `count` outputs (ONNX operator specification, Resize)."""
    out = np.arange(count)
    positions = {
        "asymmetric": out / scale,
        "half_pixel": (out + 0.5) / scale - 0.5,
        "pytorch_half_pixel": (out + 0.5) / scale - 0.5 if count > 1 else out * 0.0,
        "align_corners": out * (size - 1) / max(count - 1, 1),
    }.get(coordinates)
    if positions is None:
        raise unsupported(node, f"{coordinates!r} is not supported")
    rounded = {
        "floor": np.floor(positions),
        "ceil": np.ceil(positions),
        "round_prefer_floor": np.ceil(positions - 0.5),
        "round_prefer_ceil": np.floor(positions + 0.5),
    }[rounding]
    return tuple(int(i) for i in np.clip(rounded, 0, size - 1))


RESIZING: dict[str, Operator] = {"Resize": _resize, "Upsample": _resize}
