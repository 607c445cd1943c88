"""Puts coded tensors and what stands between them into a .hwp file."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from hwprune.codec.arrays import Symbols, encode_arrays
from hwprune.codec.coded import Coded
from hwprune.codec.container import Section, fold, fold_document, write_sections
from hwprune.codec.decoder.model import RATIO, SPARE
from hwprune.codec.exact import exact
from hwprune.codec.rate import Packed
from hwprune.codec.skeleton import Hole, elements, holes, literals
from hwprune.codec.trellis import Chained, encode_trellis

Array = TypeVar("Array", Symbols, Chained)
_PORTION = 1 << 22  # elements that a section holds, if more than one array does


def pack_exact(model: bytes) -> Packed:
    """A serialised model, to the last bit."""
    found = holes(model)
    return packed(model, found, [exact(hole, model) for hole in found], "exact")


def packed(
    model: bytes,
    found: Sequence[Hole],
    tensors: Sequence[Coded],
    codec: str,
    told: Callable[[int], bytes | None] = lambda _index: None,
    extra: Iterable[Section] = (),
) -> Packed:
    """A .hwp file.

    Args:
        model: Serialised, as it was given.
        found: Its holes.
        tensors: What became of each.
        codec: Its name.
        told: The bytes that a decoder will put into a hole, by its index; None: those of the model.
        extra: Further sections, behind all others.
    """
    between = literals(model, found)
    size, digest = _checksum(model, found, between, told)
    header = {
        "codec": codec,
        "bytes": size,
        "sha256": digest,
        "literals": [len(part) for part in between],
        "tensors": [dict(tensor.entry) for tensor in tensors],
    }
    ordered = sorted(tensors, key=lambda tensor: tensor.last)  # as the decoder tells them
    sections = [
        (b"H", fold_document(header)),
        (b"L", fold(b"".join(between))),
        (b"P", fold(b"".join(tensor.pooled for tensor in ordered))),
        *((b"V", tensor.verbatim) for tensor in ordered),
    ]
    arrays = [array for tensor in ordered for array in tensor.arrays]
    coded = ((b"A", encode_arrays(portion)) for portion in _portions(arrays))
    chained = [array for tensor in ordered for array in tensor.chained]
    chains = ((b"T", encode_trellis(portion)) for portion in _portions(chained))
    done = [*(s for s in sections if s[1]), *coded, *chains, *extra]
    return Packed(write_sections([*done, *_filler(done, size)]), elements(found))


def _filler(done: Iterable[Section], model_bytes: int) -> list[Section]:
    """Zeros, where a decoder would not believe that so short a file holds so large a model."""
    missing = (model_bytes - SPARE) // RATIO + 1 - sum(len(content) for _, content in done)
    return [(b"V", bytes(missing))] if missing > 0 else []


def _checksum(
    model: bytes,
    found: Sequence[Hole],
    between: Sequence[bytes],
    told: Callable[[int], bytes | None],
) -> tuple[int, str]:
    """Bytes and digest of what a decoder will put together, without doing so."""
    digest, size = hashlib.sha256(between[0]), len(between[0])
    for i, hole in enumerate(found):
        own = told(i)
        tensor = memoryview(model)[hole.start : hole.stop] if own is None else own
        for part in (tensor, between[i + 1]):
            digest.update(part)
            size += len(part)
    return size, digest.hexdigest()


def _portions(arrays: Sequence[Array]) -> Iterator[list[Array]]:
    """So many arrays that a decoder needs little memory at a time, and still has many lanes."""
    portion: list[Array] = []
    for array in arrays:
        portion.append(array)
        if sum(one.values.size for one in portion) >= _PORTION:
            yield portion
            portion = []
    if portion:
        yield portion
