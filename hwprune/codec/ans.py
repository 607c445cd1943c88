"""Writes symbols by asymmetric numeral systems: the counterpart of `hwprune.codec.decoder.ans`."""

from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray

from hwprune.codec.decoder.ans import PRECISION
from hwprune.codec.decoder.arrays import lane_counts

Integers = NDArray[np.int64]
_WORD, _TOP, _SLOT = np.uint64(32), np.uint64(40), np.uint64(PRECISION)
_LOW = np.uint64((1 << 32) - 1)


def encode_alike(symbols: NDArray[Any], frequency: Integers, each: int) -> list[NDArray[np.uint32]]:
    """Words of each lane of `each` symbols (the last has what is left), all of one table."""
    model = constriction.stream.model.Categorical(frequency / frequency.sum(), perfect=True)
    found, start = [], 0
    for count in lane_counts(len(symbols), each):
        coder = constriction.stream.stack.AnsCoder()
        coder.encode_reverse(symbols[start : start + count], model)
        found.append(coder.get_compressed())
        start += count
    return found


def encode_lanes(
    symbols: NDArray[Any], tables: NDArray[Any], frequencies: Integers, counts: Integers, bits: int
) -> tuple[NDArray[np.uint32], Integers]:
    """Words of all lanes, one behind the other, and how many each has.

    Args:
        symbols: Of all lanes, one lane behind the other.
        tables: The table of each symbol.
        frequencies: Tables x symbols, each table's sum is 2^bits.
        counts: Symbols of each lane.
        bits: Of their probabilities.
    """
    scaled = frequencies.astype(np.uint64) << np.uint64(PRECISION - bits)
    starts = (np.cumsum(scaled, axis=1) - scaled).reshape(-1)
    width = np.int32(frequencies.shape[1])
    order = np.argsort(-counts, kind="stable")
    where, state = (np.cumsum(counts) - 1)[order], np.zeros(len(counts), np.uint64)
    running = np.searchsorted(-counts[order], -np.arange(counts.max()), side="left")
    lanes, words = [], []
    for count in running.tolist():
        at, x = where[:count], state[:count]
        code = tables[at] * width + symbols[at]
        frequency = scaled.reshape(-1)[code]
        full = np.flatnonzero(x >= frequency << _TOP)
        lanes.append(full)
        words.append(x[full] & _LOW)
        x[full] >>= _WORD
        whole = x // frequency
        x += (whole << _SLOT) - whole * frequency + starts[code]
        where[:count] -= 1
    for _ in range(2):
        lanes.append(np.flatnonzero(state))
        words.append(state[lanes[-1]] & _LOW)
        state >>= _WORD
    owner = order[np.concatenate(lanes)]
    sorted_ = np.concatenate(words)[np.argsort(owner, kind="stable")]
    return sorted_.astype(np.uint32), np.bincount(owner, minlength=len(counts))
