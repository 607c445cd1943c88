"""Ids along axes that are joined to one, or that one is cut into: what Reshape does to channels."""

from collections.abc import Iterator, Mapping, Sequence
from math import prod

import numpy as np

from hwprune.graph.ids import NONE, Channels, Ids, sets, widened

Block = tuple[list[int], list[int]]  # axes before and after that hold the same elements


def reshaped(
    channels: Channels,
    lines: Mapping[int, Ids],
    before: Sequence[int],
    after: Sequence[int],
    reason: str,
) -> dict[int, Ids]:
    """The ids along the axes of a tensor of shape `before` once it has the shape `after`."""
    found: dict[int, Ids] = {}
    for old, new in blocks(before, after):
        joined = merge([lines.get(axis) for axis in old], [before[axis] for axis in old])
        if joined is not None:
            cut = split(channels, joined, [after[axis] for axis in new], reason)
            found |= {axis: ids for axis, ids in zip(new, cut, strict=True) if ids is not None}
    for axis, ids in lines.items():
        if before[axis] == 1:  # it may vanish, and with it the only position
            channels.freeze(ids, reason)
    return found


def blocks(before: Sequence[int], after: Sequence[int]) -> Iterator[Block]:
    """Shortest runs of axes of equal product, in order; axes of length 1 are in none."""
    old = [axis for axis, size in enumerate(before) if size != 1]
    new = [axis for axis, size in enumerate(after) if size != 1]
    while old and new:
        a, b = [old.pop(0)], [new.pop(0)]
        while (left := prod(before[i] for i in a)) != (right := prod(after[i] for i in b)):
            if left < right and old:
                a.append(old.pop(0))
            elif new:
                b.append(new.pop(0))
            else:
                return
        yield a, b


def merge(parts: Sequence[Ids | None], sizes: Sequence[int]) -> Ids | None:
    """Ids of the one axis that axes of these sizes become: a position goes with any of its own."""
    grids = []
    for axis, ids in enumerate(parts):
        if ids is not None:
            view = [1] * len(sizes) + [ids.shape[1]]
            view[axis] = len(ids)
            grids.append(np.broadcast_to(ids.reshape(view), (*sizes, ids.shape[1])))
    return np.concatenate(grids, -1).reshape(prod(sizes), -1) if grids else None


def split(channels: Channels, ids: Ids, sizes: Sequence[int], reason: str) -> list[Ids | None]:
    """Ids of the axes that one axis is cut into.

    Where it was joined before, the ids of then; where it is an axis of plain channels, it is
    refined. Anything else is tied along its leading axes, so that what is left stays a grid.
    """
    if len(sizes) == 1:
        return [ids]
    found = channels.find(ids)
    if (known := _factors(found, sizes)) is not None:
        return known
    if found.shape[1] == 1 and NONE not in found and len(np.unique(found)) == len(found):
        return list(channels.refine(ids, sizes))
    tied = channels.tie(found.reshape(-1, sizes[-1], found.shape[1]), reason)
    return [None] * (len(sizes) - 1) + [tied]


def _factors(found: Ids, sizes: Sequence[int]) -> list[Ids | None] | None:
    """Per axis the ids that all its positions share; None unless they explain every position."""
    grid = found.reshape(*sizes, found.shape[1])
    axes = [_shared(np.moveaxis(grid, axis, 0)) for axis in range(len(sizes))]
    merged = merge(axes, sizes)
    assert merged is not None
    joined, plain = sets(merged), sets(found)
    wide = max(joined.shape[1], plain.shape[1])
    if not np.array_equal(widened(joined, wide), widened(plain, wide)):
        return None
    return [sets(ids) if np.any(ids != NONE) else None for ids in axes]


def _shared(grid: Ids) -> Ids:
    """`positions x k`: the ids of the first row of each position that all its rows have."""
    rows = grid.reshape(len(grid), -1, grid.shape[-1])
    result = np.full((len(rows), rows.shape[2]), NONE)
    for column in range(rows.shape[2]):
        candidate = rows[:, 0, column]
        everywhere = np.any(rows == candidate[:, None, None], axis=2).all(axis=1)
        result[:, column] = np.where(everywhere, candidate, NONE)
    return result
