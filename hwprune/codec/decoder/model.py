"""Puts an ONNX file together again: what stood between its tensors, and its tensors."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from .budget import Budget
from .container import DecodeError, Section, document, sections
from .forms import FORMS
from .parts import Parts
from .shared import decode_shared
from .trellis import decode_trellis

MAX_BYTES = 4 << 30
RATIO, SPARE = 2048, 1 << 20  # a file may unfold into so many times its bytes, and so many more
_ODD = (KeyError, IndexError, TypeError, AttributeError, OverflowError, ValueError, RecursionError)


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a .hwp file holds.

    `complete` is False where the file ended early and what there is of it is a coarser model;
    `share` is how much of what refines the weights was there.
    """

    model: bytes
    codec: str
    complete: bool
    share: float


def decode(data: bytes, max_bytes: int = MAX_BYTES) -> Decoded:
    """The ONNX file that was packed.

    Args:
        data: A .hwp file, or the beginning of one whose codec can be cut.
        max_bytes: What the model may have.

    Raises:
        DecodeError: It is damaged, too large, or ends where no model can be had from it.
    """
    try:
        return _decode(data, max_bytes)
    except DecodeError:
        raise
    except MemoryError as error:
        raise DecodeError("there is not enough memory for the model") from error
    except _ODD as error:
        raise DecodeError(f"a description is damaged: {type(error).__name__} {error}") from error


def _decode(data: bytes, max_bytes: int) -> Decoded:
    found = sections(data)
    header = _header(next(found, None), len(data), max_bytes)
    most, ended = int(header["bytes"]), False
    parts = Parts(Budget(most))
    for section in found:
        if ended:
            raise DecodeError("something stands behind the end of the file")
        ended = section.kind == b"E"
        if not ended:
            _reader(section.kind)(parts, section.content, most)
    if not ended and not parts.progressive:
        raise DecodeError("the file ends too early: it was cut off, or its transfer was")
    model = _join(header, parts)
    if ended and hashlib.sha256(model).hexdigest() != header["sha256"]:
        raise DecodeError("what was decoded is not what was packed: its digest differs")
    return Decoded(model, str(header["codec"]), ended, parts.share)


def _header(first: Section | None, size: int, max_bytes: int) -> dict[str, Any]:
    if first is None:
        raise DecodeError("the file ends before it has said what it holds")
    if first.kind != b"H":
        raise DecodeError("the file does not begin with its header")
    header = document(first.content)
    declared, most = int(header["bytes"]), min(max_bytes, RATIO * size + SPARE)
    if not 0 <= declared <= most:
        raise DecodeError(f"the file declares a model of {declared} bytes, the limit is {most}")
    return header


def _join(header: Mapping[str, Any], parts: Parts) -> bytes:
    """Literals and tensors in turns, written as soon as all in front of them are."""
    literals, most = [int(n) for n in header["literals"]], int(header["bytes"])
    entries = header["tensors"]
    if len(literals) != len(entries) + 1:
        raise DecodeError("the file has tensors that have no place")
    model, waiting, after = BytesIO(), dict[int, bytes](), 0
    model.write(parts.literal(literals[0]))
    for i, tensor in _tensors(entries, parts, most):
        waiting[i] = tensor
        while after in waiting:
            model.write(waiting.pop(after))
            model.write(parts.literal(literals[after + 1]))
            after += 1
    if model.tell() != most:
        raise DecodeError(f"the model has {model.tell()} bytes, {most} were declared")
    return model.getvalue()


def _tensors(
    entries: Sequence[Mapping[str, Any]], parts: Parts, most: int
) -> Iterator[tuple[int, bytes]]:
    """The index and bytes of all tensors; those that need another one's scale are told last."""
    scales = {int(entry["scale"]) for entry in entries if "scale" in entry}
    order, left = sorted(range(len(entries)), key=lambda i: "scale" in entries[i]), most
    for i in order:
        found = FORMS[entries[i]["form"]](entries[i], parts, left)
        if i in scales:
            parts.tensors[i] = found
        left -= len(found)
        yield i, found


def _reader(kind: bytes) -> Callable[[Parts, memoryview, int], None]:
    if kind not in _READERS:
        raise DecodeError(f"the file has a section of unknown kind {kind!r}")
    return _READERS[kind]


def _literals(parts: Parts, content: memoryview, _most: int) -> None:
    parts.add_literals(parts.budget.unfold(content))


def _pool(parts: Parts, content: memoryview, _most: int) -> None:
    parts.add_pool(parts.budget.unfold(content))


def _verbatim(parts: Parts, content: memoryview, _most: int) -> None:
    parts.add_verbatim(content)


def _arrays(parts: Parts, content: memoryview, _most: int) -> None:
    parts.add_arrays(content)


def _refinement(parts: Parts, content: memoryview, most: int) -> None:
    parts.add_refinement(content, most)


def _shared(parts: Parts, content: memoryview, _most: int) -> None:
    parts.add_shared(decode_shared(content, parts.budget))


def _trellis(parts: Parts, content: memoryview, _most: int) -> None:
    parts.add_chained(decode_trellis(content, parts.budget))


_READERS: dict[bytes, Callable[[Parts, memoryview, int], None]] = {
    b"L": _literals,
    b"P": _pool,
    b"V": _verbatim,
    b"A": _arrays,
    b"R": _refinement,
    b"U": _shared,
    b"T": _trellis,
}
