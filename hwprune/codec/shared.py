"""Writes arrays of indices into shared values: the counterpart of `hwprune.codec.decoder.shared`.

HAM and sHAM, after Marino et al., "Efficient and Compact Representations of Deep Neural Networks
via Entropy Coding" (arXiv 2108.12704).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwprune.codec.container import fold_document
from hwprune.codec.huffman import Integers, bits_of, code_lengths, encode_streams
from hwprune.codec.portions import portions

_SPARSE = 0.5  # of the elements: where more are not zero, gaps cannot be shorter than zeros
_REACHES = [1 << i for i in range(1, 11)]
_SYMBOL_BITS = 2.0  # of one more symbol in the description of a code
_PORTION, _ARRAYS = 1 << 23, 64  # elements and arrays of a section, if it has more than one


@dataclass(frozen=True, slots=True)
class Told:
    """An array as streams of symbols: its elements, or gaps and elements that are not zero.

    Arrays of one `family` share their codes. `bits`: what it takes with codes of its own.
    """

    shape: tuple[int, ...]
    family: str
    reach: int
    streams: tuple[NDArray[np.uint16], ...]

    @property
    def bits(self) -> float:
        """What it takes with codes of its own, about what they take included."""
        return sum(_bits(counts) for _, counts in self.counted())

    def counted(self) -> Iterator[tuple[str, Integers]]:
        """Per stream the name of its code, and how often each symbol occurs."""
        if not self.reach:
            yield f"{self.family}/all", np.bincount(self.streams[0])
            return
        counts = np.bincount(self.streams[0], minlength=self.reach + 1)
        counts[self.reach] = max(counts[self.reach], 1)  # gaps always take bits
        yield f"{self.family}/gaps/{self.reach}", counts
        yield f"{self.family}/some", np.bincount(self.streams[1])


def tell(index: NDArray[np.uint16], family: str, sparse: bool) -> Told:
    """An array rows x columns x places, by what is shorter; `sparse`: whether gaps may be used."""
    flat = index.transpose(1, 2, 0).reshape(-1)
    dense = Told(index.shape, family, 0, (flat,))
    places = np.flatnonzero(flat) if sparse else flat[:0]
    if not 0 < len(places) < _SPARSE * flat.size:
        return dense
    gaps = np.diff(places, prepend=-1) - 1
    reach = min(_REACHES, key=lambda reach: _bits(_gap_counts(gaps, reach)))
    streams = _gap_symbols(gaps, reach), flat[places]
    return min(dense, Told(index.shape, family, reach, streams), key=lambda told: told.bits)


def encode_shared(arrays: Sequence[Told]) -> bytes:
    """The content of a section that holds the arrays in order."""
    totals: dict[str, Integers] = {}
    streams: list[tuple[NDArray[np.uint16], str]] = []
    for array in arrays:
        for symbols, (name, counts) in zip(array.streams, array.counted(), strict=True):
            totals[name] = _sum(totals.get(name, counts[:0]), counts)
            streams.append((symbols, name))
    numbers = {name: i for i, name in enumerate(totals)}
    codes = [code_lengths(counts) for counts in totals.values()]
    meta, payload = encode_streams([(s, numbers[name]) for s, name in streams], codes)
    meta["arrays"] = [_entry(array) for array in arrays]
    head = fold_document(meta)
    return len(head).to_bytes(4, "little") + head + payload


def shared_portions(arrays: Iterable[Told]) -> Iterator[list[Told]]:
    """So many arrays that a decoder needs little memory at a time, and still has many lanes."""
    return portions(arrays, lambda one: max(prod(one.shape), _PORTION // _ARRAYS), _PORTION)


def _entry(array: Told) -> dict[str, Any]:
    return {"shape": array.shape, **({"reach": array.reach} if array.reach else {})}


def _bits(counts: Integers) -> float:
    return bits_of(counts, code_lengths(counts)) + _SYMBOL_BITS * len(counts)


def _gap_counts(gaps: Integers, reach: int) -> Integers:
    counts = np.bincount(gaps % reach, minlength=reach + 1)
    counts[reach] = max(int((gaps // reach).sum()), 1)
    return counts


def _gap_symbols(gaps: Integers, reach: int) -> NDArray[np.uint16]:
    ends = np.cumsum(gaps // reach + 1) - 1
    found = np.full(int(ends[-1]) + 1, reach, np.uint16)
    found[ends] = gaps % reach
    return found


def _sum(one: Integers, other: Integers) -> Integers:
    found = np.zeros(max(len(one), len(other)), np.int64)
    found[: len(one)] += one
    found[: len(other)] += other
    return found
