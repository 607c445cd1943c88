"""Writes chunks of refined weights: the counterpart of `hwprune.codec.decoder.refinement`."""

from collections.abc import Iterable, Iterator
from math import log, log1p, log2

import numpy as np
from numpy.typing import NDArray

from hwprune.codec.ans import encode_alike
from hwprune.codec.decoder.ans import Words
from hwprune.codec.decoder.refinement import CHUNK, LANE, SLOPES, gap_table, reach

Places = NDArray[np.int32]
_LEAST, _CHUNKS = 600, 400  # bytes of a chunk; chunks that take a byte of every weight together


def pieces(blocks: Iterable[Places], hits: int, weights: int) -> Iterator[tuple[int, Places]]:
    """Places of a walk that are hit, in chunks; and where each chunk begins."""
    share = hits / weights
    bits = hits * (1 - log2(share) - (1 - share) * log2(1 - share or 1) / share)
    count = min(max(1, round(bits / 8 / max(_LEAST, weights // _CHUNKS))), hits)
    start, end, waiting, given = 0, 0, np.empty(0, np.int32), iter(blocks)
    for i in range(1, count + 1):
        size = hits * i // count - end
        while len(waiting) < size:
            waiting = np.concatenate([waiting, next(given)])
        piece, waiting, end = waiting[:size], waiting[size:], end + size
        yield start, piece
        start = int(piece[-1]) + 1


def write_chunk(threshold: int, start: int, places: Places, negative: NDArray[np.bool_]) -> bytes:
    """The content of a section.

    Args:
        threshold: What is added to the magnitudes.
        start: The place behind that of the last chunk's last hit; 0 where a walk begins.
        places: That are hit, ascending.
        negative: Signs of those that are hit for the first time.
    """
    slope = _slope(len(places) / (int(places[-1]) + 1 - start))
    symbols = _symbols(np.diff(places, prepend=start - 1) - 1, reach(slope))
    lanes = _lanes(symbols, slope)
    lengths = np.array([len(lane) for lane in lanes], "<u2").tobytes()
    words = np.concatenate(lanes).astype("<u4").tobytes()
    signs = np.packbits(negative).tobytes()
    return CHUNK.pack(threshold, len(symbols), slope) + lengths + words + signs


def _slope(share: float) -> int:
    """The table for gaps between hits, if so many of all weights are hit."""
    quarter = log(2) / 4 / max(-log1p(-share), 1e-9) if share < 1 else 0.0
    widths = [((4 + i % 4) << (i // 4)) / 16 for i in range(SLOPES)]
    return min(range(SLOPES), key=lambda i: abs(log(widths[i] / max(quarter, 1e-9))))


def _symbols(gaps: Places, most: int) -> NDArray[np.int32]:
    """Gaps below `most` as symbols from 1 on, each behind as many of the last one as it needs."""
    ends = np.cumsum(gaps // most + 1)
    found = np.full(int(ends[-1]), most + 1, np.int32)
    found[ends - 1] = gaps % most + 1
    return found


def _lanes(symbols: NDArray[np.int32], slope: int) -> list[Words]:
    return encode_alike(symbols, gap_table(slope), LANE)
