"""Puts coded tensors and what stands between them into a .hwp file."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
_PORTION = 1 << 23  # elements that a section holds, if more than one array does


def pack_exact(model: bytes) -> Packed:
    """A serialised model, to the last bit."""
    found = holes(model)
    file = packed(model, [exact(hole, model) for hole in found], "exact", model)
    return Packed(file, model, elements(found))


def packed(
    model: bytes,
    tensors: Sequence[Coded],
    codec: str,
    decoded: bytes,
    extra: Iterable[Section] = (),
) -> bytes:
    """A .hwp file.

    Args:
        model: Serialised, as it was given.
        tensors: What became of each of its `holes`.
        codec: Its name.
        decoded: The model that a decoder will put together: `model`, if nothing is lost.
        extra: Further sections, behind all others.
    """
    found = holes(model)
    between = literals(model, found)
    header = {
        "codec": codec,
        "bytes": len(decoded),
        "sha256": hashlib.sha256(decoded).hexdigest(),
        "literals": [len(part) for part in between],
        "tensors": [dict(tensor.entry) for tensor in tensors],
    }
    ordered = sorted(tensors, key=lambda tensor: tensor.last)  # as the decoder tells them
    sections = [
        (b"H", fold_document(header)),
        (b"L", fold(b"".join(between))),
        (b"P", fold(b"".join(tensor.pooled for tensor in ordered))),
        (b"V", b"".join(tensor.verbatim for tensor in ordered)),
    ]
    arrays = [array for tensor in ordered for array in tensor.arrays]
    coded = ((b"A", encode_arrays(portion)) for portion in _portions(arrays))
    chained = [array for tensor in ordered for array in tensor.chained]
    chains = ((b"T", encode_trellis(portion)) for portion in _portions(chained))
    done = [*(s for s in sections if s[1]), *coded, *chains, *extra]
    return write_sections([*done, *_filler(done, len(decoded))])


def _filler(done: Iterable[Section], model_bytes: int) -> list[Section]:
    """Zeros, where a decoder would not believe that so short a file holds so large a model."""
    missing = (model_bytes - SPARE) // RATIO + 1 - sum(len(content) for _, content in done)
    return [(b"V", bytes(missing))] if missing > 0 else []


def filled(model: bytes, found: Sequence[Hole], tensors: Mapping[int, bytes]) -> bytes:
    """The model with other bytes in some of its holes, by their index."""
    between = literals(model, found)
    parts = [between[0]]
    for i, hole in enumerate(found):
        parts += [tensors.get(i, model[hole.start : hole.stop]), between[i + 1]]
    return b"".join(parts)


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
