"""Canonical Huffman codes, all lanes at once.

A code is told by the lengths of its codewords alone: shorter ones come first, and among those of
one length the lower symbol (Schwartz and Kallick 1964). A stream of symbols is cut into lanes, and
it is known where in the bits each begins, so one step here decodes a symbol of every lane: a window
of bits is looked up, which tells symbol and length.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .ans import MOST_SYMBOLS, Integers
from .arrays import lane_counts
from .container import DecodeError
from .tables import numbers

LONGEST = 16  # bits of a codeword
MOST_LANE = 1 << 13  # symbols of a lane: so many steps at most
MOST_STREAMS = 1 << 12  # of a section
MOST_ENTRIES = 1 << 23  # of its lookup tables
_WINDOW = 24  # bits that are held for every byte: a codeword, wherever in the byte it begins
_SYMBOL = 16  # bits of a symbol in a lookup table, under the length

Symbols = NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class Code:
    """Bits of each symbol's codeword, 0 if it does not occur. A symbol on its own takes no bits."""

    lengths: Integers

    @property
    def certain(self) -> bool:
        """Whether there is one symbol only."""
        return int(np.count_nonzero(self.lengths)) == 1

    def lookup(self, bits: int) -> Integers:
        """Symbol, and length above it, for every window of `bits` bits."""
        order = np.argsort(self.lengths, kind="stable")
        order = order[self.lengths[order] > 0]
        lengths = self.lengths[order] * (not self.certain)
        return np.repeat(lengths << _SYMBOL | order, 1 << (bits - lengths))


def read_code(text: str) -> Code:
    """A code as it is described; DecodeError if some bits would stand for nothing, or for two."""
    lengths = numbers(text)
    present = lengths[lengths > 0]
    if not len(present) or len(lengths) > MOST_SYMBOLS or present.max() > LONGEST:
        raise DecodeError("a Huffman code is damaged")
    if len(present) > 1 and (1 << (LONGEST - present)).sum() != 1 << LONGEST:
        raise DecodeError("a Huffman code is not complete, or more than that")
    return Code(lengths)


@dataclass(frozen=True, slots=True)
class Stream:
    """So many symbols of a code, in lanes that follow one another."""

    code: int
    count: int
    lanes: slice


@dataclass(frozen=True, slots=True)
class Streams:
    """What a section holds, still coded; lane i stands in bits `edges[i]` to `edges[i + 1]`."""

    codes: Sequence[Code]
    streams: Sequence[Stream]
    each: int
    edges: Integers
    payload: memoryview

    @property
    def steps(self) -> int:
        """That a decoder of all streams takes."""
        return max(min(self.each, stream.count) for stream in self.streams)

    def decoded(self, wanted: Sequence[int]) -> list[Symbols]:
        """The symbols of some of the streams."""
        lanes, chosen = self._lanes(wanted), [self.streams[i] for i in wanted]
        found = np.empty((lanes.steps, len(lanes.order)), np.uint16)
        lanes.read(found)
        lanes.finish()
        by_lane = np.empty(found.shape[::-1], np.uint16)
        by_lane[lanes.order] = found.T
        parts = np.split(by_lane, np.cumsum([s.lanes.stop - s.lanes.start for s in chosen])[:-1])
        return [part.reshape(-1)[: s.count] for part, s in zip(parts, chosen, strict=True)]

    def blocks(self, wanted: int, steps: int) -> Iterator[tuple[Integers, Symbols]]:
        """Places and symbols of a stream, `steps` of each of its lanes at a time."""
        lanes, count = self._lanes([wanted]), self.streams[wanted].count
        found = np.zeros((steps, len(lanes.order)), np.uint16)
        grid = np.arange(steps)[:, None] + self.each * np.arange(len(lanes.order))
        for start in range(0, lanes.steps, steps):
            part = slice(min(steps, lanes.steps - start))
            lanes.read(found[part])
            inside = grid[part] < count - start
            yield grid[part][inside] + start, found[part][inside]
        lanes.finish()

    def _lanes(self, wanted: Sequence[int]) -> "_Lanes":
        chosen = [self.streams[i] for i in wanted]
        which = np.concatenate([np.arange(s.lanes.start, s.lanes.stop) for s in chosen])
        counts = np.array([n for s in chosen for n in lane_counts(s.count, self.each)], np.int64)
        used = sorted({s.code for s in chosen})
        bits = max(int(self.codes[code].lengths.max()) for code in used)
        if len(used) << bits > MOST_ENTRIES:
            raise DecodeError("a section uses too many Huffman codes")
        lut = np.concatenate([self.codes[code].lookup(bits) for code in used])
        tables = np.repeat(
            [used.index(s.code) for s in chosen], [s.lanes.stop - s.lanes.start for s in chosen]
        )
        edges = self.edges[which], self.edges[which + 1]
        return _Lanes(self.payload, edges, counts, tables << bits, lut, bits)


def read_streams(meta: Mapping[str, Any], payload: memoryview) -> Streams:
    """The streams of a section: `codes`, `streams` (code and count), `lane`, `bits` of each lane.

    Raises DecodeError.
    """
    codes, each = meta["codes"], int(meta["lane"])
    if not 1 <= each <= MOST_LANE or max(len(codes), len(meta["streams"])) > MOST_STREAMS:
        raise DecodeError("a section declares too many streams, or lanes of impossible length")
    codes = [read_code(text) for text in codes]
    edges = np.cumsum(np.array([0, *meta["bits"]], np.int64))
    if np.any(np.diff(edges) < 0) or (int(edges[-1]) + 7) // 8 != len(payload):
        raise DecodeError("the lanes are not as long as they say")
    streams: list[Stream] = []
    for code, count in meta["streams"]:
        start = streams[-1].lanes.stop if streams else 0
        streams.append(_stream(codes, int(code), int(count), start, each, edges))
    if not streams or streams[-1].lanes.stop != len(edges) - 1:
        raise DecodeError("a section has no streams, or lanes that are of none")
    return Streams(codes, streams, each, edges, payload)


def _stream(
    codes: Sequence[Code], code: int, count: int, start: int, each: int, edges: Integers
) -> Stream:
    stop = start + -(-count // each)
    if not 0 <= code < len(codes) or count < 1 or stop >= len(edges):
        raise DecodeError("a stream has no symbols, no lanes or no code")
    if not codes[code].certain and edges[stop] - edges[start] < count:
        raise DecodeError("a stream has more symbols than bits")
    return Stream(code, count, slice(start, stop))


class _Lanes:
    """Where each lane reads on; those with most symbols come first."""

    def __init__(
        self,
        payload: memoryview,
        edges: tuple[Integers, Integers],
        counts: Integers,
        base: Integers,
        lut: Integers,
        bits: int,
    ) -> None:
        self.order = np.argsort(-counts, kind="stable")
        self.steps, self._step = int(counts.max(initial=0)), 0
        ordered = -counts[self.order]
        self._running = np.searchsorted(ordered, -np.arange(self.steps), side="left")
        self._at, self._end = (edge[self.order] for edge in edges)
        self._base, self._lut = base[self.order], lut
        self._windows, self._bits = _windows(payload), bits
        self._byte, self._shift, self._entry = (np.empty_like(self._at) for _ in range(3))

    def read(self, found: Symbols) -> None:
        """The next symbols of every lane, steps x lanes; those behind a lane's end are left."""
        mask, top = (1 << self._bits) - 1, _WINDOW - self._bits
        for row in found:
            n = int(self._running[self._step])
            at, byte, shift, entry = (
                a[:n] for a in (self._at, self._byte, self._shift, self._entry)
            )
            np.right_shift(at, 3, out=byte)
            np.take(self._windows, byte, out=entry, mode="clip")
            np.bitwise_and(at, 7, out=shift)
            np.subtract(top, shift, out=shift)
            np.right_shift(entry, shift, out=entry)
            np.bitwise_and(entry, mask, out=entry)
            np.add(entry, self._base[:n], out=entry)
            np.take(self._lut, entry, out=byte, mode="clip")
            row[:n] = byte  # its lowest 16 bits
            np.right_shift(byte, _SYMBOL, out=byte)
            np.add(at, byte, out=at)
            self._step += 1

    def finish(self) -> None:
        """DecodeError unless every lane ended where it should."""
        if not np.array_equal(self._at, self._end):
            raise DecodeError("a stream of shared weights is damaged: it does not end at its end")


def _windows(payload: memoryview) -> Integers:
    """For every byte its bits and those behind it."""
    data = np.concatenate([np.frombuffer(payload, np.uint8), np.zeros(3, np.uint8)])
    wide = data.astype(np.int64)
    return wide[:-2] << 16 | wide[1:-1] << 8 | wide[2:]
