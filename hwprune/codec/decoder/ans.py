"""Asymmetric numeral systems, all lanes at once.

A lane is what `constriction.stream.stack.AnsCoder` writes for some symbols of one table: a stack of
32-bit words under a state of 64 bits, probabilities in 24 bits (Duda et al. 2015). Lanes are
independent of one another, so one step here decodes a symbol of each of them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .container import DecodeError

Words = NDArray[np.uint32]
Integers = NDArray[np.int64]
Slots = NDArray[np.uint64]

PRECISION = 24
MOST_SYMBOLS = 1 << 12  # that a table may tell apart
MOST_BITS = 16  # of its probabilities
_QUARTERS = np.array([16384, 19484, 23170, 27554])  # 2^14 times 2^(i / 4)
_FREQUENCY, _START, _LOW = np.uint64(40), np.uint64(16), np.uint64((1 << 24) - 1)
_FULL = np.uint64(1 << 32)


def frequencies(levels: Sequence[int] | Integers, bits: int) -> Integers:
    """Integer frequencies that sum to 2^bits, of log-probabilities in quarters of an octave.

    Level 0 is a symbol that does not occur, l > 0 weighs 2^(l / 4), up to 2^20 (l = 80). Integers
    only: every machine finds the same.
    """
    given = np.asarray(levels, np.int64)
    present = np.flatnonzero(given > 0)
    if not 0 < len(present) <= 1 << (bits - 1):
        raise DecodeError(f"a table of {len(present)} symbols does not fit into {bits} bits")
    weights = _QUARTERS[given[present] % 4] << (given[present] // 4)
    spare = (1 << bits) - len(present)
    found = np.zeros(len(given), np.int64)
    found[present] = 1 + weights * spare // weights.sum()
    found[present[np.argmax(weights)]] += (1 << bits) - found.sum()
    return found


def slots(frequency: Integers, bits: int) -> Slots:
    """Per value of the state's lowest `bits`: frequency, start and symbol in one number."""
    symbol = np.repeat(np.arange(len(frequency)), frequency).astype(np.uint64)
    shift = np.uint64(PRECISION - bits)
    starts = (np.cumsum(frequency) - frequency).astype(np.uint64) << shift
    scaled = frequency.astype(np.uint64) << shift
    packed = (scaled << _FREQUENCY) | (starts << _START)
    found: Slots = packed[symbol.astype(np.int64)] | symbol
    return found


def decode_lanes(
    words: Words, lengths: Integers, counts: Integers, tables: Integers, lut: Slots, bits: int
) -> NDArray[np.uint16]:
    """Symbols of all lanes, lanes x steps; what is behind a lane's count is left undefined.

    Args:
        words: Of all lanes, one lane behind the other.
        lengths: Words of each lane.
        counts: Symbols of each lane.
        tables: The table of each lane, as a row of `lut`.
        lut: `slots` of the tables, tables x 2^bits.
        bits: Of their probabilities.
    """
    if int(lengths.sum()) != len(words):
        raise DecodeError("the lanes are not as long as they say")
    order = np.argsort(-counts, kind="stable")  # the lanes that are still running come first
    lanes = Lanes(words, lengths, tables << bits, lut.ravel(), bits, order)
    steps = int(counts.max(initial=0))
    running = np.searchsorted(-counts[order], -np.arange(steps), side="left")
    found = np.empty((steps, len(counts)), np.uint16)
    for step in range(steps):
        lanes.step(int(running[step]), found[step])
    if np.any(lanes.state):
        raise DecodeError("a stream of weights is damaged: something is left behind its end")
    by_lane = np.empty(found.shape[::-1], np.uint16)
    by_lane[order] = found.T
    return by_lane


class Lanes:
    """The states of all lanes, and where each reads on; `base` is where in `lut` its table is."""

    def __init__(
        self,
        words: Words,
        lengths: Integers,
        base: Integers,
        lut: Slots,
        bits: int,
        order: NDArray[np.intp],
    ) -> None:
        self._words = words.astype(np.uint64)
        self._first = (np.cumsum(lengths) - lengths)[order]
        self._next = self._first + lengths[order] - 1
        self.state = np.zeros(len(lengths), np.uint64)
        for _ in range(2):
            self._refill(np.flatnonzero(self._next >= self._first))
        self.base, self._lut = base[order].astype(np.uint64), lut
        self._shift = np.uint64(PRECISION - bits)
        self._rest, self._slot, self._entry = (np.empty_like(self.state) for _ in range(3))
        self._low = np.empty(len(lengths), np.bool_)

    def step(self, running: int, symbols: NDArray[Any]) -> None:
        """The next symbol of the first `running` lanes."""
        state, rest = self.state[:running], self._rest[:running]
        slot, entry = self._slot[:running], self._entry[:running]
        np.bitwise_and(state, _LOW, out=rest)
        np.right_shift(rest, self._shift, out=slot)
        np.add(slot, self.base[:running], out=slot)
        np.take(self._lut, slot.view(np.int64), out=entry, mode="clip")
        symbols[:running] = entry  # its lowest 16 bits
        np.right_shift(state, np.uint64(PRECISION), out=state)
        np.right_shift(entry, _FREQUENCY, out=slot)
        np.multiply(state, slot, out=state)
        np.right_shift(entry, _START, out=entry)
        np.bitwise_and(entry, _LOW, out=entry)
        np.subtract(rest, entry, out=rest)
        np.add(state, rest, out=state)
        np.less(state, _FULL, out=self._low[:running])
        low = np.flatnonzero(self._low[:running])
        self._refill(low[self._next[low] >= self._first[low]])

    def _refill(self, lanes: NDArray[np.intp]) -> None:
        where = self._next[lanes]
        self.state[lanes] = (self.state[lanes] << np.uint64(32)) | self._words[where]
        self._next[lanes] = where - 1
