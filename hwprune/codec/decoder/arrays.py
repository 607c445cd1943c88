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
from .container import DecodeError, document
from .tables import Table, lookup, numbers, read_tables

AXES = ("rows", "columns", "places")
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

    def sorted(self, array: NDArray[Any]) -> NDArray[Any]:
        """A copy whose indices are sorted by class."""
        return array[np.ix_(*(np.argsort(c, kind="stable") for c in self.classes))]

    def restored(self, array: NDArray[Any]) -> NDArray[Any]:
        """A copy whose indices are in their own order again."""
        orders = (np.argsort(c, kind="stable") for c in self.classes)
        return array[np.ix_(*(np.argsort(order) for order in orders))]


def _runs(classes: Integers) -> list[tuple[int, slice]]:
    """Each class, and where it is when sorted."""
    found, starts = np.unique(np.sort(classes), return_index=True)
    ends = pairwise([*starts.tolist(), len(classes)])
    return [(int(c), slice(*run)) for c, run in zip(found, ends, strict=True)]


def lane_counts(symbols: int, each: int) -> list[int]:
    """How many symbols each lane of a table holds: `each`, and what is left over."""
    return [each] * (symbols // each) + ([symbols % each] if symbols % each else [])


def decode_arrays(content: memoryview, most: int) -> list[NDArray[np.int32]]:
    """The arrays of a section, rows x columns x places each.

    Args:
        content: Length of the description (u32), the description (LZMA), words (u32).
        most: Elements that they may have together.
    """
    length = int.from_bytes(content[:4], "little")
    meta = document(content[4 : 4 + length])
    tables, bits = read_tables(meta)
    layouts = [_layout(entry, len(tables)) for entry in meta["arrays"]]
    if sum(prod(layout.shape) for layout in layouts) > most:
        raise DecodeError(f"a section declares more than {most} weights")
    words = np.frombuffer(content[4 + length :], "<u4")
    values = _values(meta, words, _totals(layouts, len(tables)), tables, bits)
    taken = [0] * len(tables)
    return [_placed(layout, values, taken) for layout in layouts]


def _layout(entry: Mapping[str, Any], tables: int) -> Layout:
    sizes = [int(size) for size in entry["shape"]]
    if len(sizes) != len(AXES) or min(sizes) < 1 or prod(sizes) > 1 << 40:
        raise DecodeError(f"an array declares the shape {sizes}")
    classes = [_classes(entry.get(axis), size) for axis, size in zip(AXES, sizes, strict=True)]
    first, count = int(entry["first"]), int(entry.get("tables", 1))
    if not 0 <= first < first + count <= tables:
        raise DecodeError("an array uses tables that are not there")
    rows, columns, places = classes
    return Layout((rows, columns, places), first, count, int(entry.get("offset", 0)))


def _classes(text: str | None, size: int) -> Integers:
    if text is None:
        if size > 1 << 28:
            raise DecodeError(f"an array declares an axis of {size}")
        return np.zeros(size, np.int64)
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
    each = int(meta["lane"])
    if each < 1:
        raise DecodeError("a lane holds no symbols")
    runs = [[] if t.certain else lane_counts(n, each) for t, n in zip(tables, totals, strict=True)]
    counts = np.array([n for run in runs for n in run], np.int64)
    owners = np.repeat(np.arange(len(tables)), [len(run) for run in runs])
    lengths = np.array(meta["words"], np.int64)
    if len(lengths) != len(counts) or (len(lengths) and lengths.min() < 0):
        raise DecodeError("there are more or fewer lanes than the weights need")
    lanes = decode_lanes(words, lengths, counts, owners, lookup(tables, bits), bits)
    ends = np.cumsum([len(run) for run in runs])
    return [
        lanes[end - len(run) : end, :each].reshape(-1)[:total] if run else _certain(table, total)
        for table, run, end, total in zip(tables, runs, ends, totals, strict=True)
    ]


def _certain(table: Table, total: int) -> NDArray[np.uint16]:
    return np.full(total, np.argmax(table.frequency), np.uint16)


def _placed(layout: Layout, values: list[NDArray[np.int32]], taken: list[int]) -> NDArray[np.int32]:
    """An array, put together from what is left of its tables' values."""
    found = np.empty(layout.shape, np.int32)
    for table, box in layout.blocks():
        shape = tuple(s.stop - s.start for s in box)
        start, taken[table] = taken[table], taken[table] + prod(shape)
        found[box] = values[table][start : taken[table]].reshape(shape)
    return layout.restored(found)
