"""Tables of symbols: which values there are, and how often each occurs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .ans import MOST_BITS, MOST_SYMBOLS, Integers, Slots, frequencies, slots
from .budget import Budget
from .container import DecodeError

ORIGIN = 48  # numbers from 0 to TOP are written as the printable characters from "0" on
TOP = 78
_MOST_SLOTS = 1 << 24  # of all tables of a section
_TABLE, _SLOTS = 64, 64  # work of a table; slots for one more


@dataclass(frozen=True, slots=True)
class Table:
    """Symbol s stands for the value `lowest` + s; the last one for any other, if `escape`."""

    lowest: int
    frequency: Integers
    escape: bool

    @property
    def certain(self) -> bool:
        """Whether there is one value only: it takes neither bits nor lanes."""
        return int(np.count_nonzero(self.frequency)) == 1

    def values(self, symbols: NDArray[Any], escapes: Integers) -> NDArray[np.int32]:
        """What symbols stand for; `escapes` are the values of those that escape, in order."""
        found = symbols.astype(np.int32) + np.int32(self.lowest)
        if self.escape:
            found[symbols == len(self.frequency) - 1] = escapes
        return found

    def escapes(self, symbols: NDArray[Any]) -> int:
        """How many of the symbols escape."""
        return int(np.count_nonzero(symbols == len(self.frequency) - 1)) if self.escape else 0


def numbers(text: str) -> Integers:
    """Small numbers that were written as characters."""
    found = np.frombuffer(text.encode("latin-1", "replace"), np.uint8).astype(np.int64) - ORIGIN
    if found.size and found.min() < 0:
        raise DecodeError("a list of small numbers is damaged")
    return found


def read_table(entry: Mapping[str, Any], bits: int) -> Table:
    """A table as it is described: levels by what each is above the one before, modulo TOP + 1.

    Raises DecodeError.
    """
    steps, lowest = numbers(entry["levels"]), int(entry["lowest"])
    if not 0 < len(steps) <= MOST_SYMBOLS or abs(lowest) > 1 << 30:
        raise DecodeError("a table is damaged")
    levels = (TOP + np.cumsum(steps)) % (TOP + 1)
    return Table(lowest, frequencies(levels, bits), bool(entry.get("escape", False)))


def read_tables(meta: Mapping[str, Any], budget: Budget) -> tuple[list[Table], int]:
    """All tables of a section, and the bits of their probabilities."""
    bits, count = int(meta["bits"]), len(meta["tables"])
    if not 1 <= bits <= MOST_BITS or not 1 <= count <= _MOST_SLOTS >> bits:
        raise DecodeError("a section declares impossible tables")
    budget.spend(count * (_TABLE + (1 << bits) // _SLOTS))
    return [read_table(entry, bits) for entry in meta["tables"]], bits


def lookup(tables: list[Table], bits: int) -> Slots:
    """`slots` of all tables, tables x 2^bits."""
    found = np.empty((len(tables), 1 << bits), np.uint64)
    for row, table in zip(found, tables, strict=True):
        row[:] = slots(table.frequency, bits)
    return found
