"""Interpolation along one axis as a matrix, output x input (ONNX specification of Resize)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis to be resized: its length before and after, the scale, and a region (start, end)."""

    size: int
    count: int
    scale: float
    region: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Interpolation:
    """How Resize computes between positions."""

    mode: str  # "linear" | "cubic"
    coordinates: str
    antialias: bool = False
    cubic: float = -0.75
    exclude_outside: bool = False


def positions(axis: Axis, coordinates: str) -> Floats | None:
    """Source position of each output, or None if the transformation is not known."""
    out, n = np.arange(axis.count, dtype=np.float64), axis.size
    start, end = axis.region
    halves = (out + 0.5) / axis.scale - 0.5
    exact = axis.scale * n
    moved = n / 2 * (1 - axis.count / exact) + halves
    cropped = start * (n - 1) + out * (end - start) * (n - 1) / max(axis.count - 1, 1)
    known = {
        "asymmetric": out / axis.scale,
        "half_pixel": halves,
        "half_pixel_symmetric": moved,
        "pytorch_half_pixel": halves if axis.count > 1 else out * 0.0,
        "align_corners": out * (n - 1) / max(exact - 1, 1),
        "tf_crop_and_resize": cropped if axis.count > 1 else out + 0.5 * (start + end) * (n - 1),
    }
    return known.get(coordinates)


def matrix(axis: Axis, how: Interpolation) -> Floats:
    """Weights of the inputs (columns) for each output; the rows add up to one."""
    found = positions(axis, how.coordinates)
    if found is None:
        raise ValueError(f"{how.coordinates!r} is not supported")
    weights = np.zeros((axis.count, axis.size))
    squeeze = min(axis.scale, 1.0) if how.antialias else 1.0
    reach = 1 if how.mode == "linear" else 2
    first = int(np.floor(-reach / squeeze)) + 1
    taps = np.arange(first, reach + 1 if squeeze == 1.0 else 2 - first)
    for row, position in enumerate(found):
        left = int(np.floor(position))
        values = _kernel((taps - (position - left)) * squeeze, how)
        places = left + taps
        if how.exclude_outside:
            values = np.where((places >= 0) & (places < axis.size), values, 0.0)
        np.add.at(weights[row], np.clip(places, 0, axis.size - 1), values / values.sum())
    return weights


def outside(axis: Axis, coordinates: str) -> NDArray[np.bool_]:
    """The outputs whose source lies outside of the input."""
    found = positions(axis, coordinates)
    assert found is not None
    return np.asarray((found < 0) | (found > axis.size - 1))


def _kernel(distance: Floats, how: Interpolation) -> Floats:
    """Linear: a triangle; cubic: Keys' kernel with parameter `how.cubic`."""
    x, a = np.abs(distance), how.cubic
    if how.mode == "linear":
        return np.asarray(np.clip(1 - x, 0.0, 1.0), np.float64)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
