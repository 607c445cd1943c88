"""Writes arrays of small integers: the counterpart of `hwprune.codec.decoder.arrays`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwprune.codec.ans import encode_alike
from hwprune.codec.classes import Loudness, loudness
from hwprune.codec.container import fold_document
from hwprune.codec.decoder.arrays import AXES, MOST_LANE, Layout
from hwprune.codec.decoder.tables import ORIGIN
from hwprune.codec.tables import Described, describe, entropy

Integers = NDArray[Any]
_BITS = 14  # of probabilities
_LEAST_LANE, _LANES = 4096, 4096  # symbols a lane; lanes that a decoder likes
_RESOLUTIONS = (1, 2, 3)  # classes an octave that are tried
_SHARE = 0.004  # of all elements: fewer do not get a table of their own at either end


@dataclass(frozen=True, slots=True)
class Symbols:
    """An array rows x columns x places.

    Arrays of one family share their tables. `classed`: their distribution depends on how large
    `sizes` are in a row, a column and a place (by default the values themselves).
    """

    values: Integers
    family: str
    classed: bool = True
    sizes: NDArray[Any] | None = None


def encode_arrays(arrays: Sequence[Symbols]) -> bytes:
    """The content of a section that holds the arrays in order."""
    layouts: dict[int, Layout] = {}
    tables: list[Described] = []
    for family in dict.fromkeys(array.family for array in arrays):
        members = [i for i, array in enumerate(arrays) if array.family == family]
        choice = chosen([arrays[i] for i in members], len(tables))
        layouts |= dict(zip(members, choice.layouts, strict=True))
        tables += choice.tables
    ordered = [layouts[i] for i in range(len(arrays))]
    streams = _gathered([array.values for array in arrays], ordered, 0, len(tables))
    return _section(ordered, tables, streams)


@dataclass(frozen=True, slots=True)
class Choice:
    """The layouts of a family's arrays, its tables, and about how many bits all of it takes."""

    layouts: Sequence[Layout]
    tables: Sequence[Described]
    bits: float


def chosen(arrays: Sequence[Symbols], first: int) -> Choice:
    """With as many classes as pay; tables are counted from `first` on."""
    values = [array.values for array in arrays]
    alike = _choice(values, [_alike(v.shape, first) for v in values], first, 1)
    if not arrays[0].classed:
        return alike
    found = [loudness(a.values if a.sizes is None else a.sizes) for a in arrays]
    tried = [_classed(values, found, first, steps) for steps in _RESOLUTIONS]
    return min([alike, *tried], key=lambda choice: choice.bits)


def _alike(shape: tuple[int, ...], first: int) -> Layout:
    rows, columns, places = (np.zeros(n, np.int64) for n in shape)
    return Layout((rows, columns, places), first, 1, 0)


def _classed(
    values: Sequence[Integers], found: Sequence[Loudness], first: int, steps: int
) -> Choice:
    sizes: dict[int, int] = {}
    for one in found:
        for total, count in one.sums(steps):
            sizes[total] = sizes.get(total, 0) + count
    totals = sorted(sizes)
    ranks = np.cumsum([sizes[t] for t in totals]) / sum(sizes.values())
    low = totals[int(np.searchsorted(ranks, _SHARE))]
    high = max(low, totals[min(int(np.searchsorted(ranks, 1 - _SHARE)), len(totals) - 1)])
    layouts = [one.layout(steps, first, low, high) for one in found]
    return _choice(values, layouts, first, high - low + 1)


def _choice(
    values: Sequence[Integers], layouts: Sequence[Layout], first: int, count: int
) -> Choice:
    streams = _gathered(values, layouts, first, count)
    tables, bits = [], 0.0
    for stream in streams:
        lowest = int(stream.min()) if stream.size else 0
        wide = stream.astype(np.int32) - lowest
        counts = np.bincount(wide) if stream.size else np.ones(1, np.int64)
        tables.append(describe(lowest, counts, _BITS))
        bits += tables[-1].bits(lowest, counts)
    return Choice(layouts, tables, bits + sum(_class_bits(layout) for layout in layouts))


def _class_bits(layout: Layout) -> float:
    """About what the classes of an array take."""
    return sum(len(classes) * entropy(np.bincount(classes)) for classes in layout.classes)


def _gathered(
    values: Sequence[Integers], layouts: Sequence[Layout], first: int, count: int
) -> list[Integers]:
    """Per table its values, block by block."""
    found: list[list[Integers]] = [[] for _ in range(count)]
    for array, layout in zip(values, layouts, strict=True):
        ordered = layout.sorted(array)
        for table, box in layout.blocks():
            found[table - first].append(ordered[box].reshape(-1))
    return [np.concatenate(parts) if parts else np.zeros(0, np.int32) for parts in found]


def _section(
    layouts: Sequence[Layout], tables: Sequence[Described], streams: Sequence[Integers]
) -> bytes:
    each = min(max(sum(map(len, streams)) // _LANES, _LEAST_LANE), MOST_LANE)
    words: list[NDArray[np.uint32]] = []
    escapes: list[int] = []
    for table, stream in zip(tables, streams, strict=True):
        symbols, away = table.symbols(stream)
        escapes += away.tolist()
        words += _lanes(table, symbols, each)
    meta = {
        "bits": _BITS,
        "lane": each,
        "tables": [table.entry for table in tables],
        "arrays": [entry(layout) for layout in layouts],
        "words": [len(lane) for lane in words],
        **({"escapes": escapes} if escapes else {}),
    }
    head = fold_document(meta)
    body = np.concatenate(words).astype("<u4").tobytes() if words else b""
    return len(head).to_bytes(4, "little") + head + body


def _lanes(table: Described, symbols: Integers, each: int) -> list[NDArray[np.uint32]]:
    if table.table.certain or not len(symbols):
        return []
    return encode_alike(symbols, table.table.frequency, each)


def entry(layout: Layout) -> dict[str, Any]:
    """A layout as it is written down; axes of one class are left out."""
    found: dict[str, Any] = {"shape": list(layout.shape), "first": layout.first}
    for axis, classes in zip(AXES, layout.classes, strict=True):
        if classes.any():
            found[axis] = "".join(chr(ORIGIN + int(c)) for c in classes)
    if layout.tables > 1:
        found |= {"tables": layout.tables, "offset": layout.offset}
    return found
