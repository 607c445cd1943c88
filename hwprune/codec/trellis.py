"""Writes arrays of numbers on two grids: the counterpart of `hwprune.codec.decoder.trellis`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hwprune.codec.ans import encode_lanes
from hwprune.codec.arrays import Symbols, chosen, entry
from hwprune.codec.container import fold_document
from hwprune.codec.decoder.trellis import Owners, Runs, all_starts, lane_starts
from hwprune.codec.tables import Described, describe

_BITS, _FINE, _MANY = 12, 14, 128  # of probabilities; where a table has many symbols
_AWAY_BITS, _SYMBOL_BITS = 40.0, 4.0  # of a number that stands apart; of two symbols more
_BLOCK = 1 << 18
_LEAST_REACH, _WIDEST = 2, 2046  # steps that a table tells apart in either direction
Numbers = NDArray[np.int32]
Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Chained:
    """An array rows x columns x places of 2 k + grid.

    Its elements in order are cut into lines of `line`, each of these into runs of `run`.
    """

    values: NDArray[np.int32]
    line: int
    run: int


def encode_trellis(arrays: Sequence[Chained]) -> bytes:
    """The content of a section that holds the arrays in order."""
    told = _told(arrays)
    runs = [Runs(array.values.size, array.line, array.run) for array in arrays]
    counts = np.diff(lane_starts(all_starts(runs), len(told.symbols)), append=len(told.symbols))
    bits = told.meta["bits"]
    words, lengths = encode_lanes(told.symbols, told.owners, told.frequencies, counts, bits)
    head = fold_document({**told.meta, "words": lengths.tolist()})
    return len(head).to_bytes(4, "little") + head + words.astype("<u4").tobytes()


class _Told(NamedTuple):
    """What is told of all elements: their symbols, their tables, and what describes these."""

    symbols: NDArray[np.uint16]
    owners: Owners
    frequencies: Counts
    meta: dict[str, Any]


def _told(arrays: Sequence[Chained]) -> _Told:
    choice = chosen([Symbols(array.values >> 1, "trellis") for array in arrays], 0)
    owners = np.concatenate([layout.owners().reshape(-1) for layout in choice.layouts])
    values = np.concatenate([array.values.reshape(-1) for array in arrays])
    owners *= 2
    owners += (values & 1).astype(np.int16)
    values >>= 1
    tables, bits, kept = _tables(owners, values, 2 * len(choice.tables))
    away = np.flatnonzero(kept != values)
    meta = {
        "bits": bits,
        "tables": [table.entry for table in tables],
        "arrays": [
            entry(layout) | {"line": array.line, "run": array.run}
            for layout, array in zip(choice.layouts, arrays, strict=True)
        ],
    }
    if away.size:
        meta["away"] = [np.diff(away, prepend=0).tolist(), values[away].tolist()]
    return _Told(_symbols(kept, owners, tables), owners, _frequencies(tables), meta)


def _frequencies(tables: Sequence[Described]) -> Counts:
    """Tables x symbols."""
    found = np.zeros((len(tables), max(len(table.table.frequency) for table in tables)), np.int64)
    for row, table in zip(found, tables, strict=True):
        row[: len(table.table.frequency)] = table.table.frequency
    return found


def _symbols(kept: Numbers, owners: Owners, tables: Sequence[Described]) -> NDArray[np.uint16]:
    """By the lowest number of each element's table."""
    lowest = np.array([table.table.lowest for table in tables], np.int32)
    found = np.empty(kept.size, np.uint16)
    for part in _blocks(kept.size):
        found[part] = kept[part] - lowest[owners[part]]
    return found


def _tables(owners: Owners, numbers: Numbers, count: int) -> tuple[list[Described], int, Numbers]:
    """All tables, the bits of their probabilities, and the numbers that they can tell."""
    near = _within(owners, numbers, np.full(count, _WIDEST, np.int32))
    reach = _reaches(_histogram(owners, near, count))
    kept = _within(owners, numbers, reach)
    counts = _histogram(owners, kept, count)
    bits, middle = (_FINE if reach.max() > _MANY else _BITS), counts.shape[1] // 2
    tables = [
        describe(-r, own[middle - r : middle + r + 1], bits, escapes=False)
        for r, own in zip(reach.tolist(), counts, strict=True)
    ]
    return tables, bits, kept


def _blocks(elements: int) -> Iterator[slice]:
    """A few elements at a time, as what is computed of them takes more memory than they do."""
    yield from (slice(start, start + _BLOCK) for start in range(0, elements, _BLOCK))


def _within(owners: Owners, numbers: Numbers, reach: Numbers) -> Numbers:
    """Numbers no farther than their tables reach, an even number of steps, of the same parity."""
    found = np.empty_like(numbers)
    for part in _blocks(numbers.size):
        own = numbers[part]
        excess = np.maximum(np.abs(own) - reach[owners[part]], 0)
        found[part] = own - np.sign(own) * (excess + (excess & 1))
    return found


def _histogram(owners: Owners, numbers: Numbers, tables: int) -> Counts:
    """How often each table has each number, tables x numbers; zero is in the middle."""
    largest = max(int(numbers.max()), -int(numbers.min()))
    most = max(_LEAST_REACH, largest + 1 & ~1)
    width = 2 * most + 1
    found = np.zeros(tables * width, np.int64)
    for part in _blocks(numbers.size):
        at = owners[part] * np.int32(width) + (numbers[part] + most)
        found += np.bincount(at, minlength=found.size)
    return found.reshape(tables, width)


def _reaches(counts: Counts) -> Numbers:
    """Per table, up to which number it pays to have a symbol for each; even."""
    middle = counts.shape[1] // 2
    sizes = counts[:, middle:].copy()
    sizes[:, 1:] += counts[:, middle - 1 :: -1]
    beyond = sizes[:, ::-1].cumsum(1)[:, ::-1] - sizes
    reach = np.arange(_LEAST_REACH, middle + 1, 2, dtype=np.int32)
    found: Numbers = reach[(_AWAY_BITS * beyond[:, reach] + _SYMBOL_BITS * reach).argmin(1)]
    return found
