"""Puts coded tensors and what stands between them into a .hwp file."""

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from hwprune.codec.arrays import Symbols, encode_arrays
from hwprune.codec.coded import Coded
from hwprune.codec.container import Section, fold, fold_document, write_sections
from hwprune.codec.decoder.model import RATIO, SPARE
from hwprune.codec.exact import exact
from hwprune.codec.rate import Packed
from hwprune.codec.skeleton import Hole, elements, holes, literals
from hwprune.codec.trellis import Chained, encode_trellis
from hwprune.codec.weights import Weight
from hwprune.codec.words import unpacked_shapes

_ARRAYS, _CHAINED = 1 << 21, 1 << 22  # elements of a section, if it holds more than one array


def pack_exact(model: bytes) -> Packed:
    """A serialised model, to the last bit."""
    return packed(model, "exact")


def in_order(weights: Iterable[Weight]) -> list[Weight]:
    """As a decoder tells them: those that need another tensor's scale come last."""
    return sorted(weights, key=lambda weight: (weight.grid is not None, weight.index))


def packed(
    model: bytes,
    codec: str,
    weights: Iterable[Weight] = (),
    coded: Iterable[Coded] = (),
    extra: Iterable[Section] = (),
) -> Packed:
    """A .hwp file.

    Args:
        model: Serialised, as it was given.
        codec: Its name.
        weights: Those that are not exact.
        coded: What became of each of them, `in_order`; one at a time is asked for.
        extra: Further sections, behind all others.
    """
    found = holes(model)
    between = literals(model, found)
    tensors, digest = _Tensors(), _Digest(model, found, between)
    for index, one in _in_turn(model, found, weights, coded):
        tensors.add(index, one)
        digest.add(index, one.data)
    header = {
        "codec": codec,
        "bytes": digest.size,
        "sha256": digest.hex,
        "literals": [len(part) for part in between],
        "tensors": [tensors.entries[i] for i in range(len(found))],
    }
    head, literal = (b"H", fold_document(header)), (b"L", fold(b"".join(between)))
    sections = deque([head, literal, *tensors.sections(), *extra])
    sections += _filler(sections, digest.size)
    return Packed(write_sections(_drained(sections)), elements(found))


def _in_turn(
    model: bytes, found: Sequence[Hole], weights: Iterable[Weight], coded: Iterable[Coded]
) -> Iterator[tuple[int, Coded]]:
    """Every tensor and its index, as a decoder tells them."""
    lossy = {weight.index: weight.grid is not None for weight in weights}
    given, shapes = iter(coded), unpacked_shapes(model, found)
    for i in sorted(range(len(found)), key=lambda i: lossy.get(i, False)):
        yield i, next(given) if i in lossy else exact(found[i], model, shapes.get(i))


def _filler(done: Iterable[Section], model_bytes: int) -> list[Section]:
    """Zeros, where a decoder would not believe that so short a file holds so large a model."""
    missing = (model_bytes - SPARE) // RATIO + 1 - sum(len(content) for _, content in done)
    return [(b"V", bytes(missing))] if missing > 0 else []


def _drained(sections: deque[Section]) -> Iterator[Section]:
    """Those that hold something, freed as they are written."""
    while sections:
        section = sections.popleft()
        if len(section[1]):
            yield section


class _Tensors:
    """What stands in a file for its tensors; arrays are coded as soon as there are enough."""

    def __init__(self) -> None:
        self.entries: dict[int, dict[str, Any]] = {}
        self._pooled: list[bytes] = []
        self._sections: list[Section] = []
        self._arrays: list[Symbols] = []
        self._chained: list[Chained] = []

    def add(self, index: int, tensor: Coded) -> None:
        """The next one, as a decoder tells them."""
        self.entries[index] = dict(tensor.entry)
        self._pooled.append(tensor.pooled)
        self._sections += [(b"V", plane) for plane in tensor.verbatim]
        self._arrays += tensor.arrays
        self._chained += tensor.chained
        self._code(_ARRAYS, _CHAINED)

    def sections(self) -> list[Section]:
        """All of them, which are not kept."""
        self._code(1, 1)
        found, self._sections = self._sections, []
        return [(b"P", fold(b"".join(self._pooled))), *found]

    def _code(self, arrays: int, chained: int) -> None:
        """What waits, if it is no less than so many elements."""
        if sum(array.values.size for array in self._arrays) >= arrays:
            self._sections.append((b"A", encode_arrays(self._arrays)))
            self._arrays = []
        if sum(array.values.size for array in self._chained) >= chained:
            self._sections.append((b"T", encode_trellis(self._chained)))
            self._chained = []


class _Digest:
    """Of what a decoder will put together, without doing so.

    Tensors that are told before those in front of them wait.
    """

    def __init__(self, model: bytes, found: Sequence[Hole], between: Sequence[bytes]) -> None:
        self._model, self._found, self._between = memoryview(model), found, between
        self._hash, self.size = hashlib.sha256(between[0]), len(between[0])
        self._waiting: dict[int, bytes | None] = {}
        self._next = 0

    @property
    def hex(self) -> str:
        """Once all tensors are there."""
        return self._hash.hexdigest()

    def add(self, index: int, data: bytes | None) -> None:
        """A tensor; None: as it stands in the model."""
        self._waiting[index] = data
        while self._next in self._waiting:
            hole, own = self._found[self._next], self._waiting.pop(self._next)
            tensor = self._model[hole.start : hole.stop] if own is None else own
            for part in (tensor, self._between[self._next + 1]):
                self._hash.update(part)
                self.size += len(part)
            self._next += 1
