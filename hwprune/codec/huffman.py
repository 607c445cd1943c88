"""Writes streams of canonical Huffman codes: the counterpart of `hwprune.codec.decoder.huffman`."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwprune.codec.decoder.arrays import lane_counts
from hwprune.codec.decoder.huffman import LONGEST, MOST_LANE
from hwprune.codec.decoder.tables import ORIGIN

Integers = NDArray[np.int64]
Stream = tuple[NDArray[np.uint16], int]  # symbols, and the number of their code
_LEAST_LANE, _LANES = 4096, 4096  # symbols a lane; lanes that a decoder likes
_SHORT = 14  # bits that are enough for few symbols: lookup tables stay near the processor
_FEW = 1 << 10
_WORD = 32


def code_lengths(counts: Integers, most: int | None = None) -> Integers:
    """Lengths of the codewords of an optimal prefix code of at most `most` bits a word.

    Package-merge (Larmore and Hirschberg 1990). A symbol that does not occur has length 0, one that
    is alone has 1, although it takes no bits.

    Args:
        counts: How often each symbol occurs; one at least does.
        most: By default 14, or 16 for alphabets of more than a thousand symbols.
    """
    most = most or (_SHORT if len(counts) <= _FEW else LONGEST)
    present = np.flatnonzero(counts)
    if len(present) > 1 << most:
        raise ValueError(f"{len(present)} symbols do not have codewords of {most} bits")
    order = present[np.argsort(counts[present], kind="stable")]
    weights, found = counts[order], np.zeros(len(counts), np.int64)
    found[order] = _merged(weights, most) if len(order) > 1 else 1
    return found


def _merged(weights: Integers, most: int) -> Integers:
    """The lengths for weights that rise: how often each is among the cheapest packages."""
    items, symbols = weights, [np.ones(len(weights), np.bool_)]
    for _ in range(most - 1):
        pairs = items[: len(items) // 2 * 2].reshape(-1, 2).sum(1)
        joined = np.concatenate([weights, pairs])
        order = np.argsort(joined, kind="stable")
        items = joined[order]
        symbols.append(order < len(weights))
    found, taken = np.zeros(len(weights), np.int64), 2 * len(weights) - 2
    for level in reversed(symbols):
        own = int(level[:taken].sum())
        found[:own] += 1
        taken = 2 * (taken - own)
    return found


def codewords(lengths: Integers) -> Integers:
    """The canonical codeword of each symbol."""
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] > 0]
    sizes = 1 << (LONGEST - lengths[order])
    found = np.zeros(len(lengths), np.int64)
    found[order] = (np.cumsum(sizes) - sizes) >> (LONGEST - lengths[order])
    return found


def bits_of(counts: Integers, lengths: Integers) -> int:
    """What so many symbols take."""
    return int(counts @ lengths) if np.count_nonzero(lengths) > 1 else 0


def encode_streams(
    streams: Sequence[Stream], codes: Sequence[Integers]
) -> tuple[dict[str, Any], bytes]:
    """Description and bits of streams, by codes that are given as lengths."""
    total = sum(len(symbols) for symbols, _ in streams)
    each = min(max(total // _LANES, _LEAST_LANE), MOST_LANE)
    used = [lengths if np.count_nonzero(lengths) > 1 else 0 * lengths for lengths in codes]
    tables = [(lengths, codewords(lengths)) for lengths in used]
    size = sum(int(used[c] @ np.bincount(s, minlength=len(used[c]))) for s, c in streams)
    words, at, edges = np.zeros(size // _WORD + 2, np.uint32), 0, []
    for symbols, (lengths, code) in _lanes(streams, tables, each):
        edges.append(_write(words, at, lengths[symbols], code[symbols]))
        at += edges[-1]
    meta = {
        "lane": each,
        "codes": ["".join(chr(ORIGIN + int(n)) for n in lengths) for lengths in codes],
        "streams": [[code, len(symbols)] for symbols, code in streams],
        "bits": edges,
    }
    return meta, words.astype(">u4").tobytes()[: (size + 7) // 8]


Table = tuple[Integers, Integers]


def _lanes(
    streams: Sequence[Stream], tables: Sequence[Table], each: int
) -> Iterator[tuple[NDArray[np.uint16], Table]]:
    for symbols, code in streams:
        start = 0
        for count in lane_counts(len(symbols), each):
            yield symbols[start : start + count], tables[code]
            start += count


def _write(words: NDArray[np.uint32], at: int, lengths: Integers, codes: Integers) -> int:
    """Puts codewords into big-endian words from bit `at` on; how many bits they take."""
    ends = at + np.cumsum(lengths)
    starts, first = ends - lengths, at // _WORD
    number = starts // _WORD - first
    wide = codes.astype(np.uint64) << (2 * _WORD - starts % _WORD - lengths).astype(np.uint64)
    for offset, half in enumerate((wide >> np.uint64(_WORD), wide & np.uint64(0xFFFFFFFF))):
        summed = np.bincount(number, half)  # of bits that do not overlap: exact
        place = slice(first + offset, first + offset + len(summed))
        words[place] += summed.astype(np.uint32)
    return int(ends[-1]) - at
