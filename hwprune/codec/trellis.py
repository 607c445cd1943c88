"""Writes arrays of numbers on two grids: the counterpart of `hwprune.codec.decoder.trellis`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwprune.codec.ans import encode_lanes
from hwprune.codec.arrays import Symbols, chosen, entry
from hwprune.codec.container import fold_document
from hwprune.codec.decoder.trellis import Owners, Runs, all_starts, lane_starts
from hwprune.codec.tables import Described, describe

_BITS, _FINE, _MANY = 12, 14, 128  # of probabilities; where a table has many symbols
_AWAY_BITS, _SYMBOL_BITS = 40.0, 4.0  # of a number that stands apart; of two symbols more
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
    choice = chosen([Symbols(array.values >> 1, "trellis") for array in arrays], 0)
    owners = np.concatenate([layout.owners().reshape(-1) for layout in choice.layouts])
    values = np.concatenate([array.values.reshape(-1) for array in arrays])
    owners, numbers = 2 * owners + (values & 1).astype(np.int16), values >> 1
    tables, bits, kept = _tables(owners, numbers, 2 * len(choice.tables))
    away = np.flatnonzero(kept != numbers)
    meta = {
        "bits": bits,
        "tables": [table.entry for table in tables],
        "arrays": [
            entry(layout) | {"line": array.line, "run": array.run}
            for layout, array in zip(choice.layouts, arrays, strict=True)
        ],
    }
    if away.size:
        meta["away"] = [np.diff(away, prepend=0).tolist(), numbers[away].tolist()]
    return _section(meta, tables, kept, owners, arrays)


def _tables(owners: Owners, numbers: Numbers, count: int) -> tuple[list[Described], int, Numbers]:
    """All tables, the bits of their probabilities, and the numbers that they can tell."""
    near = _within(numbers, np.full(1, _WIDEST, np.int32))
    reach = _reaches(_histogram(owners, near, count))
    kept = _within(numbers, reach[owners])
    counts = _histogram(owners, kept, count)
    bits, middle = (_FINE if reach.max() > _MANY else _BITS), counts.shape[1] // 2
    tables = [
        describe(-r, own[middle - r : middle + r + 1], bits, escapes=False)
        for r, own in zip(reach.tolist(), counts, strict=True)
    ]
    return tables, bits, kept


def _within(numbers: Numbers, reach: Numbers) -> Numbers:
    """Numbers of at most so many steps (an even number), of the same parity."""
    excess = np.maximum(np.abs(numbers) - reach, 0)
    found: Numbers = numbers - np.sign(numbers) * (excess + (excess & 1))
    return found


def _histogram(owners: Owners, numbers: Numbers, tables: int) -> Counts:
    """How often each table has each number, tables x numbers; zero is in the middle."""
    most = max(_LEAST_REACH, int(np.abs(numbers).max()) + 1 & ~1)
    width = 2 * most + 1
    at = owners * np.int32(width) + (numbers + most)
    return np.bincount(at, minlength=tables * width).reshape(tables, width)


def _reaches(counts: Counts) -> Numbers:
    """Per table, up to which number it pays to have a symbol for each; even."""
    middle = counts.shape[1] // 2
    sizes = counts[:, middle:].copy()
    sizes[:, 1:] += counts[:, middle - 1 :: -1]
    beyond = sizes[:, ::-1].cumsum(1)[:, ::-1] - sizes
    reach = np.arange(_LEAST_REACH, middle + 1, 2, dtype=np.int32)
    found: Numbers = reach[(_AWAY_BITS * beyond[:, reach] + _SYMBOL_BITS * reach).argmin(1)]
    return found


def _section(
    meta: Mapping[str, Any],
    tables: Sequence[Described],
    numbers: Numbers,
    owners: Owners,
    arrays: Sequence[Chained],
) -> bytes:
    """The description, and the words of all lanes."""
    starts = all_starts([Runs(a.values.size, a.line, a.run) for a in arrays])
    counts = np.diff(lane_starts(starts, numbers.size), append=numbers.size)
    widest = max(len(table.table.frequency) for table in tables)
    frequencies = np.zeros((len(tables), widest), np.int64)
    for row, table in zip(frequencies, tables, strict=True):
        row[: len(table.table.frequency)] = table.table.frequency
    lowest = np.array([table.table.lowest for table in tables], np.int32)
    words, lengths = encode_lanes(
        numbers - lowest[owners], owners, frequencies, counts, meta["bits"]
    )
    head = fold_document({**meta, "words": lengths.tolist()})
    return len(head).to_bytes(4, "little") + head + words.astype("<u4").tobytes()
