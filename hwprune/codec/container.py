"""Writes the outer layer of a .hwp file: the counterpart of `hwprune.codec.decoder.container`."""

import json
import lzma
import zlib
from collections.abc import Iterable
from io import BytesIO
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwprune.codec.decoder.container import CHECK, HEAD, MAGIC, MAX_FOLDED, VERSION

Section = tuple[bytes, bytes | NDArray[np.uint8]]  # kind and content


def write_sections(sections: Iterable[Section]) -> bytes:
    """A whole file, its end included; sections are asked for one by one."""
    file = BytesIO()
    file.write(MAGIC + VERSION.to_bytes(2, "little"))
    for kind, given in chain(sections, [(b"E", b"")]):
        content = given if isinstance(given, bytes) else given.tobytes()
        head = HEAD.pack(kind, len(content))
        for part in (head, content, CHECK.pack(zlib.crc32(content, zlib.crc32(head)))):
            file.write(part)
    return file.getvalue()


def fold(data: bytes) -> bytes:
    """Compressed by LZMA, in the form that every decoder of it reads (.lzma)."""
    size = max(1 << 12, min(len(data), MAX_FOLDED))
    filters = [{"id": lzma.FILTER_LZMA1, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": size}]
    return lzma.compress(data, lzma.FORMAT_ALONE, filters=filters)


def fold_document(document: dict[str, Any]) -> bytes:
    """A JSON object, compressed."""
    return fold(json.dumps(document, separators=(",", ":")).encode("ascii"))
