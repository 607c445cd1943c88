"""Prices of kernels between measured ones: multilinear in the channel counts of one family.

A family is one layer of the network in one form (precision, what is fused); its members differ in
channel counts only. On the widths the target likes, time is close to bilinear in the channels in
and out, so a coarse grid of measured members prices all others.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RegularGridInterpolator

from hwprune.backend import Kernel

_POINTS = {1: 6, 2: 4, 3: 3}  # measured values per varying channel count, by how many vary


def coordinates(kernels: Sequence[Kernel], block: int = 1) -> NDArray[np.float64]:
    """`kernels x varying counts`: the numbers that differ within a family, each once.

    Counts of fp32 convolutions are rounded up to `block`, the staircase of the target.
    """
    rows = np.array([[n for s in (*k.inputs, k.output) for n in s] for k in kernels], dtype=float)
    varying = [c for c in range(rows.shape[1]) if len(np.unique(rows[:, c])) > 1]
    columns: list[NDArray[np.float64]] = []
    for c in varying:
        if not any(np.array_equal(rows[:, c], seen) for seen in columns):
            columns.append(rows[:, c])
    if not columns:
        return np.zeros((len(kernels), 0))
    found = np.stack(columns, axis=1)
    blocky = kernels[0].op == "Conv" and kernels[0].precision == "fp32" and block > 1
    return np.ceil(found / block) * block if blocky else found


def select(family: Sequence[Kernel], block: int = 1) -> list[Kernel]:
    """The members of a family to measure: a coarse grid that includes the extremes."""
    points = coordinates(family, block)
    if points.shape[1] == 0:
        return [family[0]]
    most = _POINTS.get(points.shape[1], 2)
    kept = [_spread(np.unique(points[:, c]), most) for c in range(points.shape[1])]
    chosen: dict[tuple[float, ...], Kernel] = {}
    for kernel, point in zip(family, points, strict=True):
        if all(v in k for v, k in zip(point, kept, strict=True)):
            chosen[tuple(point)] = kernel  # on a plateau, the widest one stands for all
    return list(chosen.values())


def price_family(
    family: Sequence[Kernel], price: Callable[[Kernel], float | None], block: int = 1
) -> dict[Kernel, float]:
    """Nanoseconds of every member; those that `price` does not know are interpolated."""
    points = coordinates(family, block)
    known = [(p, t) for k, p in zip(family, points, strict=True) if (t := price(k)) is not None]
    if not known:
        raise ValueError(f"no member of the family of {family[0].key()} was measured")
    estimate = _fit(np.array([p for p, _ in known]), np.array([t for _, t in known]))
    guesses = estimate(points)
    return {
        k: exact if (exact := price(k)) is not None else float(g)
        for k, g in zip(family, guesses, strict=True)
    }


def _spread(values: NDArray[np.float64], most: int) -> set[float]:
    if len(values) <= most:
        return set(values.tolist())
    picks = np.unique(np.round(np.linspace(0, len(values) - 1, most)).astype(int))
    return set(values[picks].tolist())


def _fit(
    points: NDArray[np.float64], times: NDArray[np.float64]
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    if points.shape[1] == 0 or len(points) == 1:
        mean = float(np.mean(times))
        return lambda queries: np.full(len(queries), mean)
    values = _by_point(points, times)
    axes = [np.unique(points[:, c]) for c in range(points.shape[1])]
    complete = all(p in values for p in product(*(a.tolist() for a in axes)))
    if complete and all(len(a) > 1 for a in axes):
        grid = np.array([values[p] for p in product(*(a.tolist() for a in axes))])
        inside = RegularGridInterpolator(axes, grid.reshape([len(a) for a in axes]))
        low, high = points.min(axis=0), points.max(axis=0)
        return lambda queries: np.asarray(inside(np.clip(queries, low, high)))
    return _least_squares(points, times)


def _by_point(
    points: NDArray[np.float64], times: NDArray[np.float64]
) -> Mapping[tuple[float, ...], float]:
    gathered: dict[tuple[float, ...], list[float]] = {}
    for p, t in zip(points, times, strict=True):
        gathered.setdefault(tuple(p.tolist()), []).append(float(t))
    return {p: float(np.mean(t)) for p, t in gathered.items()}


def _least_squares(
    points: NDArray[np.float64], times: NDArray[np.float64]
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """Where the measured members are no full grid: time ~ 1 + counts + their product."""

    def terms(p: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.column_stack([np.ones(len(p)), p, np.prod(p, axis=1)])

    solution = np.linalg.lstsq(terms(points), times, rcond=None)[0]
    least = float(times.min())
    return lambda queries: np.maximum(terms(queries) @ solution, 0.5 * least)


def families_of(pairs: Iterable[tuple[str, Kernel]]) -> dict[str, list[Kernel]]:
    """Family name -> its distinct kernels."""
    found: dict[str, dict[Kernel, None]] = {}
    for name, kernel in pairs:
        found.setdefault(name, {})[kernel] = None
    return {name: list(members) for name, members in found.items()}
