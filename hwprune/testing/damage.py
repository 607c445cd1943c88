"""Damage to .hwp files: what transfers do to bytes, and what somebody hostile does to descriptions.

Checksums find the former; where they are mended, the damage reaches the decoder.
"""

import json
import random
import zlib
from collections.abc import Callable
from copy import deepcopy
from typing import Any

from hwprune.codec.container import fold, write_sections
from hwprune.codec.decoder.container import CHECK, HEAD, MAGIC, sections, unfold

_START = len(MAGIC) + 2
_DEEP = "\0deep"  # stands for lists within lists, which json would not write
_HOSTILE: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 2, 3.7, -1e9, 1e308, 1e-320, float("nan"), float("inf")),
    *(1 << 16, 1 << 24, 1 << 31, 1 << 40, 1 << 60, 1 << 63, 1 << 64, -(1 << 63), 10**30, 10**400),
    *("", "0", "a", "ÿ€", "~" * 4096, "aaaa", "9" * 400, _DEEP),
    *([], {}, [[]], [0] * 10_000, [{}] * 1000, [[1], [2, 3]], {"form": "planes"}),
)
Change = Callable[[Any, random.Random], Any]


def damaged(file: bytes, other: bytes, number: int) -> tuple[bytes, bool]:
    """A damaged copy, always the same for a number, and whether its checksums were mended.

    Args:
        file: A whole .hwp file.
        other: Another one, parts of which may come into it.
        number: A third of all change descriptions; of the others, half are mended.
    """
    rng = random.Random(number)
    if number % 3 == 0:
        return redescribed(file, rng), True
    changed = _torn(file, other, rng)
    return (mended(changed), True) if number % 3 == 1 else (changed, False)


def mended(data: bytes) -> bytes:
    """The same with right checksums, section by section as far as lengths lead."""
    found, at = bytearray(data), _START
    while at + HEAD.size <= len(found):
        end = at + HEAD.size + HEAD.unpack_from(found, at)[1]
        if end + CHECK.size > len(found):
            break
        CHECK.pack_into(found, end, zlib.crc32(found[at:end]))
        at = end + CHECK.size
    return bytes(found)


def redescribed(file: bytes, rng: random.Random) -> bytes:
    """With one to three changes to a description."""
    parts = [(s.kind, bytes(s.content)) for s in sections(file)][:-1]
    where = rng.choice([i for i, (kind, _) in enumerate(parts) if kind in (b"H", b"A", b"T", b"U")])
    kind, content = parts[where]
    start = 0 if kind == b"H" else 4 + int.from_bytes(content[:4], "little")
    document = json.loads(unfold(content[4:start] if start else content, 1 << 24))
    for _ in range(rng.randrange(1, 4)):
        document = _changed(document, rng)
    text = json.dumps(document).replace(json.dumps(_DEEP), "[" * 50_000 + "]" * 50_000)
    head = fold(text.encode())
    size = len(head).to_bytes(4, "little") if start else b""
    parts[where] = kind, size + head + (content[start:] if start else b"")
    return write_sections(parts)


def _torn(file: bytes, other: bytes, rng: random.Random) -> bytes:
    data, at = bytearray(file), rng.randrange(len(file))
    size = rng.choice((1, 2, 4, 16, 64))
    kind = rng.choice(("bits", "bits", "bytes", "run", "cut", "lost", "twice", "splice", "length"))
    if kind == "bits":
        for _ in range(rng.randrange(1, 5)):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == "bytes":
        data[at : at + size] = rng.randbytes(size)
    elif kind == "run":
        data[at : at + size] = bytes([rng.choice((0, 1, 127, 255))]) * size
    elif kind == "cut":
        del data[at:]
    elif kind == "lost":
        del data[at : at + size]
    elif kind == "twice":
        data[at:at] = data[at : at + size]
    elif kind == "splice":
        data[at:] = other[rng.randrange(len(other)) :]
    else:
        _lengthened(data, rng)
    return bytes(data)


def _lengthened(data: bytearray, rng: random.Random) -> None:
    """One of the sections claims to have more, or fewer, bytes."""
    where = rng.choice([s.offset for s in sections(bytes(data))])
    kind, length = HEAD.unpack_from(data, where)
    other = rng.choice(
        (0, 1, length + 1, length + 64, length // 2, 1 << 31, 1 << 60, (1 << 64) - 1)
    )
    HEAD.pack_into(data, where, kind, other)


def _changed(value: Any, rng: random.Random) -> Any:
    """With a change somewhere inside; the deeper, the less likely it is left alone."""
    if isinstance(value, dict | list) and value and rng.random() < 0.85:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = rng.choice(keys)
        value[key] = _changed(value[key], rng)
        return value
    if rng.random() < 0.3:
        return _any(value, rng)
    return _OF.get(type(value), _any)(value, rng)


def _any(_value: Any, rng: random.Random) -> Any:
    return deepcopy(rng.choice(_HOSTILE))  # further changes are to the copy


def _number(value: Any, rng: random.Random) -> Any:
    return rng.choice(
        (value + 1, value - 1, -value, 2 * value, -value // 3, value * 1024, 0, [value])
    )


def _text(value: str, rng: random.Random) -> Any:
    at = rng.randrange(len(value) + 1)
    grown = value * rng.choice((2, 64))
    return rng.choice(
        (
            value[:at] + rng.choice("0a~\x7f") + value[at + 1 :],
            value[:at],
            grown,
            [value],
            value + "0",
        )
    )


def _list(value: list[Any], rng: random.Random) -> Any:
    at = rng.randrange(len(value) + 1)
    turned = [*value[at:], *value[:at]]
    return rng.choice((value[:at], turned, value * rng.choice((2, 50)), [*value, *value[:at]], at))


def _dict(value: dict[str, Any], rng: random.Random) -> Any:
    kept = [key for key in value if rng.random() < 0.7]
    more = {
        rng.choice(("scale", "axis", "zero", "rows", "escape", "escapes", "offset", "centre")): 0
    }
    return rng.choice(({key: value[key] for key in kept}, {**value, **more}, list(value), [value]))


_OF: dict[type, Change] = {int: _number, float: _number, str: _text, list: _list, dict: _dict}
