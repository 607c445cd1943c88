"""From counts of values to tables that a decoder rebuilds, with their description kept short."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwprune.codec.decoder.ans import MOST_SYMBOLS
from hwprune.codec.decoder.tables import ORIGIN, TOP, Table, read_table

Counts = NDArray[np.int64]
_ESCAPE_BITS = 34.0  # of a value that stands in the description
_SYMBOL_BITS = 2.0  # of one more symbol in a table
_TABLE_BITS = 120.0
_ENOUGH = 48  # values that tell a frequency well enough


@dataclass(frozen=True, slots=True)
class Described:
    """A table, and how it is written down."""

    entry: dict[str, Any]
    table: Table

    def symbols(self, values: NDArray[Any]) -> tuple[NDArray[np.int32], NDArray[Any]]:
        """The symbols of values, and those values that escape."""
        found = values.astype(np.int32) - np.int32(self.table.lowest)
        last = len(self.table.frequency) - 1
        if not self.table.escape:
            return found, values[:0]
        away = (found < 0) | (found >= last)
        found[away] = last
        return found, values[away]

    def bits(self, lowest: int, counts: Counts) -> float:
        """About what so many values take, and the description."""
        share = self.table.frequency / self.table.frequency.sum()
        inside = len(share) - self.table.escape
        start = self.table.lowest - lowest
        kept = counts[start : start + inside]
        away = float(counts.sum() - kept.sum())
        data = -(kept * np.log2(share[:inside])).sum()
        if away:
            data -= away * np.log2(share[-1]) - away * _ESCAPE_BITS
        return float(data + _TABLE_BITS + _SYMBOL_BITS * len(share))


def entropy(counts: NDArray[Any]) -> float:
    """Bits of a value, if values occur so often."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


def describe(lowest: int, counts: Counts, bits: int, escapes: bool = True) -> Described:
    """The table of values `lowest`, `lowest` + 1, ... that occur so often.

    With `escapes`, rare values at both ends are left to them where that takes fewer bits.
    """
    start, stop = _core(counts) if escapes else (0, len(counts))
    kept = counts[start:stop].astype(np.float64)
    escaped = int(counts.sum() - counts[start:stop].sum())
    tail = [float(escaped)] if escaped else []
    forms = [np.array([*form, *tail]) for form in (np.maximum(kept, 0.5), _smoothed(kept))]
    wanted = np.array([*kept, *tail])
    levels = min((_levels(form) for form in forms), key=lambda x: _cost(wanted, x))
    entry: dict[str, Any] = {"lowest": lowest + start, "levels": _text(levels)}
    if escaped:
        entry["escape"] = 1
    return Described(entry, read_table(entry, bits))


def _core(counts: Counts) -> tuple[int, int]:
    """From which value to which a symbol for each pays."""
    present = np.flatnonzero(counts)
    start, stop = int(present[0]), int(present[-1]) + 1
    while stop - start > 1:
        left, right = counts[start], counts[stop - 1]
        gap = _gap(counts, start, stop, bool(left <= right))
        worth = _SYMBOL_BITS * gap > _ESCAPE_BITS * min(left, right)
        if not worth and stop - start < MOST_SYMBOLS:
            break
        start, stop = (start + gap, stop) if left <= right else (start, stop - gap)
    return start, stop


def _gap(counts: Counts, start: int, stop: int, left: bool) -> int:
    """How far it is from one end to the next value that occurs."""
    inside = np.flatnonzero(counts[start:stop])
    return int(inside[1] - inside[0] if left else inside[-1] - inside[-2])


def _smoothed(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each frequency from so many neighbours that enough values tell it: less noise to write."""
    total, n = np.concatenate([[0.0], np.cumsum(counts)]), len(counts)
    at, found = np.arange(n), counts.copy()
    open_ = counts < _ENOUGH
    for width in range(1, n):
        if not open_.any():
            break
        low, high = np.maximum(at - width, 0), np.minimum(at + width + 1, n)
        inside = total[high] - total[low]
        found[open_] = (inside / (high - low))[open_]
        open_ &= inside < _ENOUGH
    return np.maximum(found, 1e-3)


def _levels(counts: NDArray[np.float64]) -> Counts:
    """Log-frequencies in quarters of an octave; the most frequent has the top level."""
    found: Counts = np.rint(4 * np.log2(counts / counts.max())).astype(np.int64) + TOP
    return np.maximum(found, 1)


def _cost(counts: NDArray[np.float64], levels: Counts) -> float:
    """Bits of so many values by such a table, and of the table."""
    weights = np.exp2(levels / 4)
    steps = np.abs(np.diff(levels))
    return float(-(counts * np.log2(weights / weights.sum())).sum() + np.log2(1 + steps).sum() * 2)


def _text(levels: Counts) -> str:
    steps = np.diff(levels, prepend=TOP) % (TOP + 1)
    return "".join(chr(ORIGIN + int(step)) for step in steps)
