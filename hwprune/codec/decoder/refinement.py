"""Successive refinement: weights that begin as zeros and grow with every chunk of the file.

Isik et al. 2022 (An Information-Theoretic Justification for Model Pruning, algorithm 2): magnitudes
of all weights of a network are one vector, and what a weight still lacks is refined by a threshold
once it is no less. Here all weights are walked in an order that scatters them, as often as there
are thresholds, and a chunk tells how far it is from one weight that is hit to the next, with the
signs of those that are hit for the first time. So any first chunks of a file are a coarser model.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from math import gcd

import numpy as np
from numpy.typing import NDArray

from .ans import MOST_BITS, Integers, Words, decode_lanes, frequencies, slots
from .arrays import lane_counts
from .container import DecodeError

HEAD = struct.Struct("<IQ")  # weights of the network, bytes of all chunks
CHUNK = struct.Struct("<IIB")  # threshold, symbols, slope; then words of each lane (u16)
LANE = 4096  # symbols
SLOPES = 49
MOST = (1 << 31) - 1  # of a threshold
_GOLDEN = 618033989, 1000000000
_REACH, _DROP = 1023, 24  # gaps with a symbol: so many; or until so many times 2^(1/4) rarer
_SYMBOLS, _SPARE = 160, 256  # that a word may hold; that the state of a lane may hold
_PORTION = 1 << 22  # symbols that are decoded at a time
_BLOCK = 1 << 18


def stride(count: int) -> int:
    """Weight i is at place i stride mod `count` of the walk: next to the golden section of it."""
    found = count * _GOLDEN[0] // _GOLDEN[1]
    while gcd(found, count) != 1:
        found += 1
    return found


def walk(start: int, stop: int, count: int) -> Iterator[tuple[int, Integers]]:
    """Places of weights `start` to `stop`, in blocks: the first one's number, and their places."""
    step = stride(count)
    for first in range(start, stop, _BLOCK):
        yield first, np.arange(first, min(first + _BLOCK, stop), dtype=np.int64) * step % count


def reach(slope: int) -> int:
    """How many gaps have a symbol: from 0 on."""
    return min(_REACH, _DROP * _width(slope) // 16)


def _width(slope: int) -> int:
    """Of a stretch over which gaps become 2^(1 / 4) times rarer, in 16ths of a weight."""
    return (4 + slope % 4) << (slope // 4)


@cache
def gap_table(slope: int) -> Integers:
    """Frequencies: of a symbol that is never used, of gaps 0, 1, ..., of a stretch of them all.

    A stream that is read beyond its end goes on with the first symbol, which is an error.
    """
    width = _width(slope)
    drops = [(16 * gap + width // 2) // width for gap in range(reach(slope) + 1)]
    levels = [_DROP + 2 - drop for drop in drops[:-1]]
    return frequencies([1, *levels, _DROP + 4 + slope - drops[-1]], MOST_BITS)


@dataclass(frozen=True, slots=True)
class Chunk:
    """What a section tells: `words` of all lanes, then `signs` of what is hit for the first time.

    `lengths` are the words of each lane.
    """

    threshold: int
    slope: int
    symbols: int
    lengths: Integers
    words: Words
    signs: NDArray[np.uint8]

    @property
    def counts(self) -> list[int]:
        """Symbols of each lane."""
        return lane_counts(self.symbols, LANE)


def read_chunk(content: memoryview) -> Chunk:
    """A chunk from its section. Raises DecodeError."""
    if len(content) < CHUNK.size:
        raise DecodeError("a chunk of weights is too short")
    threshold, symbols, slope = CHUNK.unpack_from(content)
    lanes = -(-symbols // LANE)
    start = CHUNK.size + 2 * lanes
    if not (0 < threshold <= MOST and slope < SLOPES and symbols and start <= len(content)):
        raise DecodeError("a chunk of weights declares what cannot be")
    lengths = np.frombuffer(content, "<u2", lanes, CHUNK.size).astype(np.int64)
    words, room = int(lengths.sum()), _SYMBOLS * lengths + _SPARE
    if start + 4 * words > len(content) or np.any(lane_counts(symbols, LANE) > room):
        raise DecodeError("a chunk of weights declares more than it holds")
    coded = np.frombuffer(content, "<u4", words, start)
    signs = np.frombuffer(content[start + 4 * words :], np.uint8)
    return Chunk(threshold, slope, symbols, lengths, coded, signs)


class Refinement:
    """All weights of a network as signed integers, as far as they have been refined.

    `share` is how much of all chunks has been read.
    """

    def __init__(self, head: memoryview, most: int) -> None:
        if len(head) != HEAD.size:
            raise DecodeError("the head of the refinement is damaged")
        self._count, self._bytes = HEAD.unpack(head)
        if not 0 < self._count <= min(most, (1 << 31) - 1):
            raise DecodeError(f"the file declares {self._count} weights, refined")
        self._read = self._taken = self._threshold = self._at = 0
        self._waiting: list[Chunk] = []
        self._grown: NDArray[np.int32] | None = None  # in the order of the walk

    @property
    def share(self) -> float:
        """From 0 to 1."""
        return float(self._read / self._bytes) if self._bytes else 1.0

    def add(self, content: memoryview) -> None:
        """The next chunk."""
        self._read += len(content)
        if self._read > self._bytes:
            raise DecodeError("there are more chunks than the file declares")
        self._waiting.append(read_chunk(content))

    def take(self, count: int) -> NDArray[np.int32]:
        """The next `count` weights."""
        if not 0 <= count <= self._count - self._taken:
            raise DecodeError("a tensor has more weights than were refined")
        start, self._taken = self._taken, self._taken + count
        grown, found = self._refined(), np.empty(count, np.int32)
        for first, places in walk(start, self._taken, self._count):
            found[first - start :][: len(places)] = grown[places]
        if self._taken == self._count:
            self._grown = None  # nobody asks again
        return found

    def _refined(self) -> NDArray[np.int32]:
        if self._grown is None:
            self._grown = np.zeros(self._count, np.int32)
        for portion in _portions(self._waiting):
            for chunk, symbols in zip(portion, _decoded(portion), strict=True):
                self._refine(self._grown, chunk, symbols)
        self._waiting = []
        return self._grown

    def _refine(self, grown: NDArray[np.int32], chunk: Chunk, symbols: NDArray[np.uint16]) -> None:
        if chunk.threshold != self._threshold:  # another walk
            self._threshold, self._at = chunk.threshold, 0
        places = self._at + _hits(symbols, reach(chunk.slope))
        self._at = int(places[-1]) + 1
        if self._at > self._count:
            raise DecodeError("a chunk refines weights that are not there")
        before = grown[places]
        signs = np.sign(before)
        signs[before == 0] = _signs(chunk.signs, int(np.count_nonzero(before == 0)))
        grown[places] = before + signs * np.int32(chunk.threshold)


def _hits(symbols: NDArray[np.uint16], most: int) -> Integers:
    """How far each weight that is hit stands behind the start."""
    hit = symbols <= most
    if not (hit[-1] and symbols.all()):
        raise DecodeError("a chunk of weights ends in the middle of a gap")
    ends: Integers = np.cumsum(np.minimum(symbols, most), dtype=np.int64)
    return ends[hit] - 1


def _signs(packed: NDArray[np.uint8], count: int) -> NDArray[np.int32]:
    if len(packed) != -(-count // 8):
        raise DecodeError("a chunk has more or fewer signs than new weights")
    return 1 - 2 * np.unpackbits(packed, count=count).astype(np.int32)


def _portions(chunks: Sequence[Chunk]) -> Iterator[list[Chunk]]:
    """So many chunks that their lanes side by side take little memory."""
    portion: list[Chunk] = []
    lanes = steps = 0
    for chunk in chunks:
        lanes, steps = lanes + len(chunk.lengths), max(steps, min(chunk.symbols, LANE))
        if portion and lanes * steps > _PORTION:
            yield portion
            portion, lanes, steps = [], len(chunk.lengths), min(chunk.symbols, LANE)
        portion.append(chunk)
    if portion:
        yield portion


def _decoded(chunks: Sequence[Chunk]) -> Iterator[NDArray[np.uint16]]:
    """The symbols of each chunk."""
    slopes = sorted({chunk.slope for chunk in chunks})
    lut = np.stack([slots(gap_table(slope), MOST_BITS) for slope in slopes])
    tables = [slopes.index(chunk.slope) for chunk in chunks for _ in chunk.lengths]
    words = np.concatenate([chunk.words for chunk in chunks])
    lengths = np.concatenate([chunk.lengths for chunk in chunks])
    counts = np.array([n for chunk in chunks for n in chunk.counts], np.int64)
    lanes = decode_lanes(words, lengths, counts, np.array(tables), lut, MOST_BITS)
    start = 0
    for chunk in chunks:
        stop = start + len(chunk.lengths)
        yield lanes[start:stop, :LANE].reshape(-1)[: chunk.symbols]
        start = stop
