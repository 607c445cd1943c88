"""`Resize`: nearest in all its roundings, linear and cubic in all their transformations."""

import numpy as np
import onnx_graphsurgeon as gs
import torch
import torch.nn.functional as F
from torch import Tensor

from hwprune.network.call import Call, Operator, Shape, integers, shape, unsupported, values
from hwprune.network.interpolation import Axis, Interpolation, matrix, outside, positions

_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}
_ALIGN = {"half_pixel": False, "pytorch_half_pixel": False, "align_corners": True}
_CROP = "tf_crop_and_resize"

Matrix = tuple[tuple[float, ...], ...]


def nearest(x: Tensor, indices: tuple[tuple[int, ...], ...]) -> Tensor:
    """Picks, for every axis, these source positions; an empty list keeps the axis."""
    for axis, picks in enumerate(indices):
        if picks:
            x = x.index_select(axis, torch.tensor(picks, device=x.device))
    return x


def linear(x: Tensor, size: Shape, mode: str, align_corners: bool) -> Tensor:
    """Linear interpolation to the spatial `size`."""
    return F.interpolate(x, size, mode=mode, align_corners=align_corners)


def separable(
    x: Tensor, matrices: tuple[Matrix, ...], fill: tuple[tuple[int, ...], ...], value: float
) -> Tensor:
    """Multiplies every axis by its matrix (empty: kept); positions in `fill` become `value`."""
    for axis, weights in enumerate(matrices):
        if weights:
            m = torch.tensor(weights, dtype=x.dtype, device=x.device)
            x = (x.movedim(axis, -1) @ m.T).movedim(-1, axis)
    for axis, places in enumerate(fill):
        if places:
            x = x.index_fill(axis, torch.tensor(places, device=x.device), value)
    return x


def _resize(node: gs.Node) -> Call:
    before, after = shape(node.inputs[0]), shape(node.outputs[0])
    mode = node.attrs.get("mode", "nearest")
    axes = _axes(node, before, after)
    coordinates = node.attrs.get("coordinate_transformation_mode", "half_pixel")
    if positions(Axis(2, 2, 1.0), coordinates) is None:
        raise unsupported(node, f"{coordinates!r} is not supported")
    if mode == "nearest":
        rounding = node.attrs.get("nearest_mode", "round_prefer_floor")
        return Call(
            nearest, kwargs={"indices": tuple(_picks(a, coordinates, rounding) for a in axes)}
        )
    if _is_plain(node, mode, coordinates, axes):
        kwargs = {"size": after[2:], "mode": _LINEAR[len(after) - 2]}
        return Call(linear, kwargs=kwargs | {"align_corners": _ALIGN[coordinates]})
    return _separable(node, mode, coordinates, axes)


def _is_plain(node: gs.Node, mode: str, coordinates: str, axes: list[Axis | None]) -> bool:
    """Whether torch has a function for it: linear over spatial axes, by whole-number sizes."""
    if mode != "linear" or coordinates not in _ALIGN or node.attrs.get("antialias", 0):
        return False
    resized = [axis for axis in axes if axis is not None]
    single = coordinates == "pytorch_half_pixel" and any(axis.count == 1 for axis in resized)
    exact = all(axis.count == axis.size * axis.scale for axis in resized)
    return axes[:2] == [None, None] and len(axes) - 2 in _LINEAR and exact and not single


def _separable(node: gs.Node, mode: str, coordinates: str, axes: list[Axis | None]) -> Call:
    how = Interpolation(
        mode,
        coordinates,
        bool(node.attrs.get("antialias", 0)),
        node.attrs.get("cubic_coeff_a", -0.75),
        bool(node.attrs.get("exclude_outside", 0)),
    )
    if mode not in ("linear", "cubic"):
        raise unsupported(node, f"the mode {mode!r} is not supported")
    matrices = tuple(
        () if axis is None else tuple(map(tuple, matrix(axis, how).tolist())) for axis in axes
    )
    fill: list[tuple[int, ...]] = [()] * len(axes)
    if coordinates == _CROP:
        beyond = [() if a is None else np.flatnonzero(outside(a, coordinates)) for a in axes]
        fill = [tuple(int(i) for i in places) for places in beyond]
    value = float(node.attrs.get("extrapolation_value", 0.0))
    return Call(separable, kwargs={"matrices": matrices, "fill": tuple(fill), "value": value})


def _axes(node: gs.Node, before: Shape, after: Shape) -> list[Axis | None]:
    """What happens to each axis; None where it keeps its length and all its positions."""
    rank = len(before)
    named = [axis % rank for axis in node.attrs.get("axes", range(rank))]
    scales, sizes = values(node, 2), integers(node, 3)
    given = (
        dict(zip(named, scales.tolist(), strict=True)) if scales is not None and scales.size else {}
    )
    policy = node.attrs.get("keep_aspect_ratio_policy", "stretch")
    if sizes and policy != "stretch":
        ratios = [size / before[axis] for axis, size in zip(named, sizes, strict=True)]
        given = dict.fromkeys(named, min(ratios) if policy == "not_larger" else max(ratios))
    regions = _regions(node, named)
    return [
        None
        if a == b and axis not in regions
        else Axis(b, a, float(given.get(axis, a / b)), regions.get(axis, (0.0, 1.0)))
        for axis, (b, a) in enumerate(zip(before, after, strict=True))
    ]


def _regions(node: gs.Node, named: list[int]) -> dict[int, tuple[float, float]]:
    """Start and end of the cropped region, by axis."""
    if node.attrs.get("coordinate_transformation_mode") != _CROP:
        return {}
    roi = values(node, 1)
    if roi is None or roi.size != 2 * len(named):
        raise unsupported(node, "a crop without its region is not supported")
    starts, ends = roi.reshape(2, -1).tolist()
    found = dict(zip(named, zip(starts, ends, strict=True), strict=True))
    return {axis: region for axis, region in found.items() if region != (0.0, 1.0)}


def _picks(axis: Axis | None, coordinates: str, rounding: str) -> tuple[int, ...]:
    """Source index of each output position."""
    if axis is None:
        return ()
    found = positions(axis, coordinates)
    assert found is not None
    rounded = {
        "floor": np.floor(found),
        "ceil": np.ceil(found),
        "round_prefer_floor": np.ceil(found - 0.5),
        "round_prefer_ceil": np.floor(found + 0.5),
    }[rounding]
    return tuple(int(i) for i in np.clip(rounded, 0, axis.size - 1))


RESIZING: dict[str, Operator] = {"Resize": _resize, "Upsample": _resize}
