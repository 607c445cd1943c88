"""Arrays of small integers, each element coded by a table that is known beforehand.

An array is seen as rows x columns x places (a convolution: outputs, inputs, kernel). Each index of
each axis has a class, and the sum of its three classes says which table an element is coded by. So
weights of loud rows and of quiet ones do not share a distribution, and as no table depends on what
was decoded before, all lanes decode side by side.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise, product
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .ans import Integers, decode_lanes
from .budget import Budget
from .container import DecodeError
from .tables import Table, lookup, numbers, read_tables

AXES = ("rows", "columns", "places")
MOST_LANE = 1 << 13  # symbols: each is a step
STEP = 12  # work
_ARRAY, _BLOCK = 64, 8
_FAR = 1 << 12  # no class is so large
Box = tuple[slice, slice, slice]


@dataclass(frozen=True, slots=True)
class Layout:
    """The classes of an array's indices, and the tables that it uses.

    An element is coded by table `first` + clip(sum of its classes - `offset`, 0, `tables` - 1).
    """

    classes: tuple[Integers, Integers, Integers]
    first: int
    tables: int
    offset: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows x columns x places."""
        return tuple(len(c) for c in self.classes)

    def blocks(self) -> Iterator[tuple[int, Box]]:
        """Table and place of each block of the array whose indices are sorted by class."""
        for rows, columns, places in product(*(_runs(c) for c in self.classes)):
            total = rows[0] + columns[0] + places[0] - self.offset
            table = self.first + min(max(total, 0), self.tables - 1)
            yield table, (rows[1], columns[1], places[1])

    def owners(self) -> NDArray[np.int16]:
        """The table of each element, in the array's order."""
        rows, columns, places = (c.astype(np.int16) for c in self.classes)
        rows = np.clip(rows - self.offset, -_FAR, _FAR).astype(np.int16)
        found = rows[:, None, None] + columns[:, None] + places
        np.clip(found, 0, self.tables - 1, out=found)
        found += np.int16(self.first)
        return found

    def sorted(self, array: NDArray[Any]) -> NDArray[Any]:
        """The array with its indices sorted by class."""
        for axis, order in self._orders():
            array = array.take(order, axis)
        return array

    def restored(self, array: NDArray[Any]) -> NDArray[Any]:
        """The array with its indices in their own order again."""
        for axis, order in self._orders():
            array = array.take(np.argsort(order), axis)
        return array

    def _orders(self) -> Iterator[tuple[int, NDArray[np.intp]]]:
        """Of each axis that has classes."""
        for axis, classes in enumerate(self.classes):
            if classes.any():
                yield axis, np.argsort(classes, kind="stable")


def _runs(classes: Integers) -> list[tuple[int, slice]]:
    """Each class, and where it is when sorted."""
    if not classes.any():
        return [(0, slice(0, len(classes)))]
    found, starts = np.unique(np.sort(classes), return_index=True)
    ends = pairwise([*starts.tolist(), len(classes)])
    return [(int(c), slice(*run)) for c, run in zip(found, ends, strict=True)]


def lane_counts(symbols: int, each: int) -> list[int]:
    """How many symbols each lane of a table holds: `each`, and what is left over."""
    return [each] * (symbols // each) + ([symbols % each] if symbols % each else [])


def decode_arrays(content: memoryview, budget: Budget) -> list[NDArray[np.int32]]:
    """The arrays of a section, rows x columns x places each.

    Args:
        content: Length of the description (u32), the description (LZMA), words (u32).
        budget: What they may take.
    """
    length = int.from_bytes(content[:4], "little")
    meta = budget.document(content[4 : 4 + length])
    tables, bits = read_tables(meta, budget)
    layouts = [read_layout(entry, len(tables), budget) for entry in meta["arrays"]]
    totals = _totals(layouts, len(tables))
    budget.spend(STEP * min(_lane(meta), max(totals)))
    words = np.frombuffer(content[4 + length :], "<u4")
    values = _values(meta, words, totals, tables, bits)
    taken = [0] * len(tables)
    return [_placed(layout, values, taken) for layout in layouts]


def read_layout(entry: Mapping[str, Any], tables: int, budget: Budget, bits: int = 1) -> Layout:
    """How an array uses that many tables; elements stand for so many bits of the model at least.

    Raises DecodeError.
    """
    sizes = [int(size) for size in entry["shape"]]
    if len(sizes) != len(AXES) or min(sizes) < 1:
        raise DecodeError(f"an array declares the shape {sizes}")
    budget.take(bits * prod(sizes))
    classes = [_classes(entry.get(axis), size) for axis, size in zip(AXES, sizes, strict=True)]
    first, count = int(entry["first"]), int(entry.get("tables", 1))
    if not 0 <= first < first + count <= tables:
        raise DecodeError("an array uses tables that are not there")
    budget.spend(_ARRAY + _BLOCK * prod(len(_runs(c)) for c in classes))
    rows, columns, places = classes
    return Layout((rows, columns, places), first, count, int(entry.get("offset", 0)))


def _classes(text: str | None, size: int) -> Integers:
    if text is None:
        return np.broadcast_to(np.int64(0), size)
    if len(text) != size:
        raise DecodeError(f"an axis of {size} has {len(text)} classes")
    return numbers(text)


def _totals(layouts: list[Layout], tables: int) -> list[int]:
    """How many elements each table codes."""
    found = [0] * tables
    for layout in layouts:
        for table, box in layout.blocks():
            found[table] += prod(s.stop - s.start for s in box)
    return found


def _values(
    meta: Mapping[str, Any],
    words: NDArray[np.uint32],
    totals: list[int],
    tables: list[Table],
    bits: int,
) -> list[NDArray[np.int32]]:
    """Per table its values, in the order of the blocks."""
    symbols = _symbols(meta, words, totals, tables, bits)
    escapes, at, found = np.array(meta.get("escapes", []), np.int64), 0, []
    for table, coded in zip(tables, symbols, strict=True):
        end = at + table.escapes(coded)
        if end > len(escapes):
            raise DecodeError("a value that does not fit into its table is missing")
        found.append(table.values(coded, escapes[at:end]))
        at = end
    return found


def _symbols(
    meta: Mapping[str, Any],
    words: NDArray[np.uint32],
    totals: list[int],
    tables: list[Table],
    bits: int,
) -> list[NDArray[np.uint16]]:
    """Per table its symbols; lanes stand in the file table by table."""
    each, lengths = _lane(meta), np.array(meta["words"], np.int64)
    lanes = sum(-(-n // each) for t, n in zip(tables, totals, strict=True) if not t.certain)
    if lengths.shape != (lanes,) or np.any((lengths < 0) | (lengths > words.size)):
        raise DecodeError("there are more or fewer lanes than the weights need")
    runs = [[] if t.certain else lane_counts(n, each) for t, n in zip(tables, totals, strict=True)]
    counts = np.array([n for run in runs for n in run], np.int64)
    owners = np.repeat(np.arange(len(tables)), [len(run) for run in runs])
    found = decode_lanes(words, lengths, counts, owners, lookup(tables, bits), bits)
    ends = np.cumsum([len(run) for run in runs])
    return [
        found[end - len(run) : end, :each].reshape(-1)[:total] if run else _certain(table, total)
        for table, run, end, total in zip(tables, runs, ends, totals, strict=True)
    ]


def _lane(meta: Mapping[str, Any]) -> int:
    """Symbols of a lane."""
    each = int(meta["lane"])
    if not 1 <= each <= MOST_LANE:
        raise DecodeError(f"a lane holds {each} symbols")
    return each


def _certain(table: Table, total: int) -> NDArray[np.uint16]:
    return np.broadcast_to(np.uint16(np.argmax(table.frequency)), total)


def _placed(layout: Layout, values: list[NDArray[np.int32]], taken: list[int]) -> NDArray[np.int32]:
    """An array, put together from what is left of its tables' values."""
    found = np.empty(layout.shape, np.int32)
    for table, box in layout.blocks():
        shape = tuple(s.stop - s.start for s in box)
        start, taken[table] = taken[table], taken[table] + prod(shape)
        found[box] = values[table][start : taken[table]].reshape(shape)
    return layout.restored(found)
