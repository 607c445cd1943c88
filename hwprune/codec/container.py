"""Writes the outer layer of a .hwp file: the counterpart of `hwprune.codec.decoder.container`."""

import json
import lzma
import zlib
from collections.abc import Iterable
from typing import Any

from hwprune.codec.decoder.container import CHECK, HEAD, MAGIC, MAX_FOLDED, VERSION

Section = tuple[bytes, bytes]  # kind and content


def write_sections(sections: Iterable[Section]) -> bytes:
    """A whole file, its end included."""
    parts = [MAGIC, VERSION.to_bytes(2, "little")]
    for kind, content in (*sections, (b"E", b"")):
        head = HEAD.pack(kind, len(content))
        parts += [head, content, CHECK.pack(zlib.crc32(content, zlib.crc32(head)))]
    return b"".join(parts)


def fold(data: bytes) -> bytes:
    """Compressed by LZMA, in the form that every decoder of it reads (.lzma)."""
    size = max(1 << 12, min(len(data), MAX_FOLDED))
    filters = [{"id": lzma.FILTER_LZMA1, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": size}]
    return lzma.compress(data, lzma.FORMAT_ALONE, filters=filters)


def fold_document(document: dict[str, Any]) -> bytes:
    """A JSON object, compressed."""
    return fold(json.dumps(document, separators=(",", ":")).encode("ascii"))
