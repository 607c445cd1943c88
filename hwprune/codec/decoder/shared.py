"""Arrays of indices into a few shared values, by Huffman codes: HAM and sHAM (arXiv 2108.12704).

An array is seen as a matrix, rows x (columns x places), and told column by column: every element
(HAM), or where something other than index 0 is, and what (sHAM). Index 0 is the most frequent one.
sHAM counts the zeros before each element across the ends of columns, so that no column needs to say
how many elements it has.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from .ans import Integers
from .arrays import STEP
from .budget import Budget
from .container import DecodeError
from .huffman import Streams, Symbols, read_streams


@dataclass(frozen=True, slots=True)
class Matrix:
    """An array that is still coded.

    Its elements are the symbols of one stream. If `reach` is more than 0, these are only those that
    are not index 0, and a stream of gaps is before them: symbol g says that g zeros and an element
    follow, `reach` that so many zeros do.
    """

    shape: tuple[int, int, int]
    streams: range
    reach: int

    def places(self, gaps: Symbols, count: int) -> Integers:
        """Where its `count` elements are, counted column by column."""
        skips = gaps == self.reach
        found: Integers = (np.cumsum(gaps.astype(np.int64) + ~skips) - 1)[~skips]
        if len(found) != count or found[-1] >= prod(self.shape):
            raise DecodeError("a sparse array has elements outside of it, or too few or many")
        return found

    def dense(self, symbols: Sequence[Symbols]) -> Symbols:
        """All indices, rows x columns x places, from the symbols of its streams."""
        rows, columns, places = self.shape
        found = symbols[-1]
        if self.reach:
            found = np.zeros(prod(self.shape), np.uint16)
            found[self.places(symbols[0], len(symbols[1]))] = symbols[1]
        return found.reshape(columns, places, rows).transpose(2, 0, 1)


@dataclass(frozen=True, slots=True)
class Shared:
    """A section: arrays that are still coded, and their streams."""

    matrices: Sequence[Matrix]
    streams: Streams


def decode_shared(content: memoryview, budget: Budget) -> list[Symbols]:
    """The arrays of a section, rows x columns x places each.

    Args:
        content: Length of the description (u32), the description (LZMA), lanes (bits).
        budget: What they may take.
    """
    found = read_shared(content, budget)
    symbols = found.streams.decoded(range(len(found.streams.streams)))
    return [m.dense(symbols[m.streams.start : m.streams.stop]) for m in found.matrices]


def read_shared(content: memoryview, budget: Budget) -> Shared:
    """The same, not yet decoded; raises DecodeError."""
    length = int.from_bytes(content[:4], "little")
    meta = budget.document(content[4 : 4 + length])
    streams = read_streams(meta, content[4 + length :])
    budget.spend(STEP * streams.steps)
    matrices: list[Matrix] = []
    for entry in meta["arrays"]:
        start = matrices[-1].streams.stop if matrices else 0
        matrices.append(_matrix(entry, start, streams))
    if not matrices or matrices[-1].streams.stop != len(streams.streams):
        raise DecodeError("a section has no arrays, or streams that are of none")
    budget.take(2 * sum(prod(matrix.shape) for matrix in matrices))
    return Shared(matrices, streams)


def _matrix(entry: Mapping[str, Any], start: int, streams: Streams) -> Matrix:
    rows, columns, places = (int(size) for size in entry["shape"])
    size, reach = rows * columns * places, int(entry.get("reach", 0))
    own = range(start, start + 1 + bool(reach))
    counts = [stream.count for stream in streams.streams[own.start : own.stop]]
    if min(rows, columns, places) < 1 or reach < 0 or len(counts) < len(own):
        raise DecodeError("an array has no elements, or no streams that they are told by")
    if max(counts) > size or (not reach and counts != [size]):
        raise DecodeError(f"an array of {size} elements is told by {max(counts)} symbols")
    if reach and streams.codes[streams.streams[start].code].certain:
        raise DecodeError("a sparse array is told by gaps that take no bits")
    return Matrix((rows, columns, places), own, reach)
