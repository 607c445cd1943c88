"""Arrays of whole numbers that belong to one of two grids, chained by their parities.

Trellis-coded quantisation (Marcellin and Fischer 1990; with entropy coding Joshi, Crump and Fischer
1995): each number k counts steps on grid 0 or on grid 1, and nothing in the file says on which. The
first of a run is on grid 0; after it

    grid of the next = (parity of k + grid of the one before + grid two before) modulo 2,

a shift register of 8 states. So an encoder chooses among paths that lie more densely than the
points of one grid. An element's table is told by its classes and its grid. A lane holds whole runs,
one behind the other, and all lanes are decoded side by side.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .ans import Integers, Lanes, Slots, Words
from .arrays import MOST_LANE, STEP, Layout, read_layout
from .budget import Budget
from .container import DecodeError
from .tables import Table, lookup, read_tables

Owners = NDArray[np.int16]
_FARTHEST = 1 << 29  # that a number may be
_PORTION = 1 << 20  # elements whose tables are looked up at once


@dataclass(frozen=True, slots=True)
class Runs:
    """An array's elements in order are cut into lines, and each line into runs."""

    size: int
    line: int
    run: int

    def starts(self) -> Integers:
        """Where runs begin."""
        lines = np.arange(0, self.size, self.line)
        found = (lines[:, None] + np.arange(0, self.line, self.run)).reshape(-1)
        return found[found < self.size]


def all_starts(runs: Sequence[Runs]) -> Integers:
    """Where runs begin in arrays that stand one behind the other."""
    ends = np.cumsum([one.size for one in runs])
    parts = [one.starts() + end - one.size for one, end in zip(runs, ends, strict=True)]
    return np.concatenate(parts)


def lane_starts(starts: Integers, total: int) -> Integers:
    """Which starts of runs begin a lane: each holds as many as fit into it."""
    found, ends = [0], np.append(starts, total)
    while True:
        end = int(ends[np.searchsorted(ends, found[-1] + MOST_LANE, side="right") - 1])
        if end >= total:
            return np.array(found, np.int64)
        found.append(end)


def decode_trellis(content: memoryview, budget: Budget) -> list[NDArray[np.int32]]:
    """The arrays of a section, rows x columns x places each, as 2 k + grid.

    Args:
        content: Length of the description (u32), the description (LZMA), words (u32).
        budget: What they may take.
    """
    length = int.from_bytes(content[:4], "little")
    meta = budget.document(content[4 : 4 + length])
    tables, bits = read_tables(meta, budget)
    _check(tables)
    layouts = [read_layout(entry, len(tables) // 2, budget, 2) for entry in meta["arrays"]]
    total = sum(prod(layout.shape) for layout in layouts)
    if not layouts:
        raise DecodeError("a section has no arrays")
    owners = np.concatenate([layout.owners().reshape(-1) for layout in layouts])
    owners *= 2
    starts = all_starts([_runs(*pair) for pair in zip(meta["arrays"], layouts, strict=True)])
    budget.spend(2 * STEP * min(MOST_LANE, total))
    lanes = lane_starts(starts, total)
    words = np.frombuffer(content[4 + length :], "<u4")
    lengths = np.array(meta["words"], np.int64)
    if lengths.shape != lanes.shape or np.any((lengths < 0) | (lengths > words.size)):
        raise DecodeError("there are more or fewer lanes than the weights need")
    found = _decoded(owners, starts, lanes, words, lengths, lookup(tables, bits), bits)
    values = _values(found, owners, tables, meta)
    parts = np.split(values, np.cumsum([prod(layout.shape) for layout in layouts])[:-1])
    return [part.reshape(one.shape) for part, one in zip(parts, layouts, strict=True)]


def _check(tables: list[Table]) -> None:
    """Tables come in pairs; parities of symbols are those of numbers."""
    odd = any(table.certain or table.escape or table.lowest % 2 for table in tables)
    if len(tables) % 2 or odd:
        raise DecodeError("a trellis has tables that do not suit it")


def _runs(entry: Mapping[str, Any], layout: Layout) -> Runs:
    size, line, run = prod(layout.shape), int(entry["line"]), int(entry["run"])
    if not 0 < run <= line <= size or run > MOST_LANE:
        raise DecodeError(f"an array of {size} weights has lines of {line} and runs of {run}")
    return Runs(size, line, run)


def _decoded(
    owners: Owners,
    starts: Integers,
    first: Integers,
    words: Words,
    lengths: Integers,
    lut: Slots,
    bits: int,
) -> NDArray[np.uint16]:
    """2 symbol + grid of each element."""
    if int(lengths.sum()) != len(words):
        raise DecodeError("the lanes are not as long as they say")
    counts = np.diff(first, append=len(owners))
    order = np.argsort(-counts, kind="stable")  # the lanes that are still running come first
    lanes = Lanes(words, lengths, np.zeros_like(first), lut.reshape(-1), bits, order)
    steps = np.arange(int(counts.max()))
    running = np.searchsorted(-counts[order], -steps, side="left").tolist()
    fresh, ends = _restarts(starts, first, order, steps)
    found, where = np.empty(len(owners), np.uint16), first[order]
    state, symbols, grid = (np.zeros(len(first), np.uint16) for _ in range(3))
    own, shift = np.zeros(len(first), np.int16), np.uint64(bits)
    for step, count in enumerate(running):
        state[fresh[ends[step] : ends[step + 1]]] = 0
        at, s, k, q, o = (x[:count] for x in (where, state, symbols, grid, own))
        np.take(owners, at, out=o, mode="clip")
        np.bitwise_and(s, 1, out=q)
        np.add(o, q.view(np.int16), out=o)
        np.left_shift(o.view(np.uint16), shift, out=lanes.base[:count])
        lanes.step(count, k)
        found[at] = (k << 1) | q
        at += 1
        k ^= (s >> 1) ^ (s >> 2)
        k &= 1
        s <<= 1
        s |= k
    if np.any(lanes.state):
        raise DecodeError("a stream of weights is damaged: something is left behind its end")
    return found


def _restarts(
    starts: Integers, first: Integers, order: Integers, steps: Integers
) -> tuple[Integers, list[int]]:
    """Which lanes begin a run at each step, by their rank: from an end to the next."""
    lane = np.searchsorted(first, starts, side="right") - 1
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    at = starts - first[lane]
    by_step = np.argsort(at, kind="stable")
    ends = np.searchsorted(at[by_step], np.append(steps, len(steps)))
    return rank[lane[by_step]], ends.tolist()


def _values(
    found: NDArray[np.uint16], owners: Owners, tables: list[Table], meta: Mapping[str, Any]
) -> NDArray[np.int32]:
    """2 k + grid; what is outside of its table's values stands apart."""
    lowest = np.array([2 * table.lowest for table in tables], np.int32)
    values = np.empty(len(found), np.int32)
    for start in range(0, len(found), _PORTION):
        part = slice(start, start + _PORTION)
        own = owners[part] + (found[part] & 1).view(np.int16)
        np.add(lowest[own], found[part], out=values[part])
    away = meta.get("away", [])
    if away:
        at, numbers = np.cumsum(np.array(away[0], np.int64)), np.array(away[1], np.int64)
        if np.any(np.abs(numbers) > _FARTHEST) or np.any(at < 0):
            raise DecodeError("a weight of very many steps is damaged")
        values[at] = 2 * numbers + (values[at] & 1)
    return values
