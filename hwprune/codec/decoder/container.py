"""The outer layer of a .hwp file: sections, each with its length and its checksum."""

import json
import lzma
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MAGIC = b"\x89HWP\r\n\x1a\n"  # as in PNG: a transfer that touches line ends or bit 7 shows
VERSION = 1
HEAD = struct.Struct("<cQ")  # kind, bytes of what follows
CHECK = struct.Struct("<I")  # CRC-32 of head and content
LZMA_BYTES = 13  # of a .lzma header: properties, dictionary, size
MAX_FOLDED = 1 << 26  # bytes back that a compressed part may refer to
MOST_DOCUMENT = 8 << 20  # bytes of a description
_MEMORY = MAX_FOLDED + (1 << 20)  # that the decoder of a compressed part may take


class DecodeError(ValueError):
    """The file is no .hwp file, or damaged, or too large; the message says what and where."""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the file: what kind it is, where it stands, and what it holds."""

    kind: bytes
    offset: int
    content: memoryview


def sections(data: bytes) -> Iterator[Section]:
    """The whole sections of a file; stops without a word where the file ends too early.

    Raises:
        DecodeError: It is no .hwp file, is of a newer version, or a checksum is wrong.
    """
    position = _begin(data)
    view = memoryview(data)
    while position + HEAD.size <= len(data):
        kind, length = HEAD.unpack_from(data, position)
        end = position + HEAD.size + length
        if end + CHECK.size > len(data):
            return
        (wanted,) = CHECK.unpack_from(data, end)
        if zlib.crc32(view[position:end]) != wanted:
            raise DecodeError(f"the section at byte {position} is damaged: its checksum is wrong")
        yield Section(kind, position, view[position + HEAD.size : end])
        position = end + CHECK.size


def _begin(data: bytes) -> int:
    if data[: len(MAGIC)] != MAGIC:
        raise DecodeError("this is no .hwp file: it begins otherwise")
    version = int.from_bytes(data[len(MAGIC) : len(MAGIC) + 2], "little")
    if version != VERSION:
        raise DecodeError(f"the file is of version {version}, this decoder reads {VERSION}")
    return len(MAGIC) + 2


def unfold(packed: bytes | memoryview, limit: int) -> bytes:
    """What an LZMA stream (.lzma) holds, if it is no more than `limit` bytes."""
    try:
        decoder = lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_MEMORY)
        found = decoder.decompress(packed, limit + 1)
    except (lzma.LZMAError, EOFError, ValueError) as error:
        raise DecodeError(f"a compressed part is damaged: {error}") from error
    if len(found) > limit:
        raise DecodeError(f"a compressed part unfolds into more than {limit} bytes")
    return found


def document(packed: bytes | memoryview) -> dict[str, Any]:
    """A JSON object that was folded."""
    return parsed(unfold(packed, MOST_DOCUMENT))


def parsed(text: bytes) -> dict[str, Any]:
    """A JSON object."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"a description is damaged: {error}") from error
    if not isinstance(found, dict):
        raise DecodeError("a description is no JSON object")
    return found
