"""Short .hwp files that declare enormous things, all of their checksums right.

Each is a header, a section, and zeros that stand for nothing: the longer a file is, the larger a
model its decoder believes in.
"""

from collections.abc import Mapping
from typing import Any

from hwprune.codec.container import Section, fold, fold_document, write_sections
from hwprune.codec.decoder.container import CHECK
from hwprune.codec.decoder.refinement import CHUNK
from hwprune.codec.decoder.refinement import HEAD as REFINEMENT

_ROOM, _MODEL = 2000, 4 << 20  # bytes of a file, and of the model that it may declare then
_ARRAY = {"shape": [1, 1, 1], "first": 0}
_SURE, _EVEN = {"levels": "0", "lowest": 0}, {"levels": "00", "lowest": 0}
_PLAIN = {"form": "plain", "bytes": 0, "item": 1}
_FLOATS = {"form": "planes", "planes": "a", "count": 1}
_GRIDS = {"form": "trellis", "dtype": "float32", "step": 1, "shifts": [[0, 0]] * 2, "axis": 0}
_INDICES = {"form": "codebook", "dtype": "float32", "values": 1}


def bombs() -> dict[str, bytes]:
    """By what they declare."""
    return {
        "a model of 2^60 bytes": _file(header={"bytes": 1 << 60}),
        "a section of 2^60 bytes": _overlong(),
        "a million literals": _file(header={"literals": [0] * 10**6, "tensors": [_PLAIN]}),
        "ten million tensors": _file(header={"tensors": [0] * 10**7}),
        "a million empty tensors": _file(header={"tensors": [_PLAIN] * (1 << 18)}),
        "a tensor of 2^40 elements": _told({"form": "planes", "planes": "vvvv", "count": 1 << 40}),
        "elements of 2^40 bytes": _told(
            {"form": "palette", "colours": 1, "item": 1 << 40, "centre": 0}, _section()
        ),
        "a hundred thousand planes": _told(
            {"form": "planes", "planes": "v" * 10**5, "count": 1 << 20}
        ),
        "packed elements without end": _told({"form": "packed", "bits": 4, "count": 1 << 40}),
        "a sparse tensor without end": _told(
            {"form": "sparse", "planes": "v" * 8, "count": 1}, _section(shape=[1, 1, _MODEL])
        ),
        "a weight of 2^28 steps": _told(
            _GRIDS, _chained(words=[1], body=_word(1 << 23), away=[[0], [1 << 28]])
        ),
        "as many chained elements as there is room for": _told(
            _GRIDS, _chained(axes={"shape": [1, 1, _MODEL], "line": _MODEL, "run": 1})
        ),
        "lines without end": _told(_GRIDS, _chained(axes={"line": 1 << 60, "run": 1})),
        "many sections of many chained steps": _told(
            _GRIDS,
            *[_chained(axes={"shape": [1, 1, 8192], "line": 8192, "run": 8192}, words=[0])] * 1000,
        ),
        "an array of 2^40 elements": _told(_FLOATS, _section(shape=[1 << 20, 1 << 20, 1])),
        "an axis of 2^28": _told(_FLOATS, _section(shape=[1, 1, 1 << 28])),
        "as many elements as there is room for": _told(_FLOATS, _section(shape=[1, 1, _MODEL])),
        "lanes that cost nothing": _told(
            _FLOATS,
            _section([_EVEN], shape=[1, 1, 4 * _MODEL], lane=8192, words=[0] * (_MODEL // 2048)),
        ),
        "a lane without end": _told(
            _FLOATS, _section([_EVEN], shape=[1, 1, _MODEL], lane=1 << 60, words=[0])
        ),
        "lanes of one symbol": _told(
            _FLOATS, _section([_EVEN], shape=[1, 1, _MODEL], lane=1, words=[0])
        ),
        "a million lanes": _told(
            _FLOATS, _section([_EVEN], shape=[1, 1, 10**6], lane=1, words=[0] * 10**6)
        ),
        "words of 2^63 bytes": _told(_FLOATS, _section([_EVEN], words=[(1 << 63) - 1])),
        "a million tables": _told(_FLOATS, _section([_SURE] * 10**5)),
        "a gigabyte of tables": _told(_FLOATS, _section([_SURE] * 1024, bits=16)),
        "tables of many symbols": _told(
            _FLOATS, _section([{**_SURE, "levels": "0" * 4096}] * 1000)
        ),
        "a table of a million symbols": _told(
            _FLOATS, _section([{**_SURE, "levels": "0" * 10**6}])
        ),
        "nine million classes of elements": _told(_FLOATS, _section(**_classed(207, 207, 207))),
        "arrays without number": _told(_FLOATS, _section(arrays=[_ARRAY] * 300_000)),
        "many sections of many elements": _told(
            _FLOATS, *[_section(shape=[1, 1, 4 * _MODEL])] * 50, room=10_000
        ),
        "many sections of many steps": _told(
            _FLOATS, *[_section([_EVEN], shape=[1, 1, 8192], lane=8192, words=[0])] * 1000
        ),
        "many sections of many lists": _told(
            _FLOATS, *[_section(junk=[[[]]] * 10**6)] * 40, room=10_000
        ),
        "indices that cost nothing": _told(_INDICES, _shared(4 * _MODEL)),
        "more indices than there is room for": _told(_INDICES, _shared(5 * _MODEL)),
        "many sections of many indices": _told(_INDICES, *[_shared(8192)] * 1000),
        "codes without number": _told(_INDICES, _shared(codes=["1"] * 10**6)),
        "streams without number": _told(_INDICES, _shared(streams=[[0, 1]] * 10**6)),
        "a description of a gigabyte": write_sections(
            [(b"H", fold(b'{"a":[' + b"[]," * (80 << 20)))]
        ),
        "a description of many lists": _file(header={"junk": [[]] * (5 << 20)}),
        "a description that is deep": write_sections([(b"H", fold(b'{"a":' + b"[" * 10**7))]),
        "many sections of zeros": _file(*[(b"L", fold(bytes(_MODEL)))] * 20),
        "a memory of a gigabyte": write_sections([(b"H", _forgetful(fold_document({})))]),
        "weights without end, refined": _file((b"R", REFINEMENT.pack((1 << 32) - 1, 1 << 60))),
        "a chunk without end": _file(
            (b"R", REFINEMENT.pack(1000, 1 << 60)), (b"R", CHUNK.pack(1, (1 << 32) - 1, 0))
        ),
    }


def _file(*sections: Section, header: Mapping[str, Any] | None = None, room: int = _ROOM) -> bytes:
    empty = {"codec": "exact", "bytes": _MODEL, "sha256": "", "literals": [0], "tensors": []}
    head = fold_document({**empty, **(header or {})})
    return write_sections([(b"H", head), *sections, (b"V", bytes(room))])


def _told(tensor: Mapping[str, Any], *sections: Section, room: int = _ROOM) -> bytes:
    """A file of one tensor."""
    return _file(*sections, header={"literals": [0, 0], "tensors": [dict(tensor)]}, room=room)


def _section(
    tables: list[Any] | None = None,
    shape: list[int] | None = None,
    arrays: list[Any] | None = None,
    body: bytes = b"",
    **more: Any,
) -> Section:
    """Of one array, unless told otherwise, whose elements are all alike."""
    array = {**_ARRAY, "shape": shape or [1, 1, 1], **more.pop("axes", {})}
    meta = {"bits": 14, "lane": 8192, "words": [], "tables": tables or [_SURE]}
    return _described(b"A", {**meta, "arrays": arrays or [array], **more}, body)


def _shared(size: int = 1, lane: int = 8192, **more: Any) -> Section:
    """Indices of one array, all of them alike."""
    meta = {"codes": ["1"], "streams": [[0, size]], "lane": lane, "bits": [0] * -(-size // lane)}
    return _described(b"U", {**meta, "arrays": [{"shape": [1, 1, size]}], **more})


def _described(kind: bytes, meta: dict[str, Any], body: bytes = b"") -> Section:
    head = fold_document(meta)
    return kind, len(head).to_bytes(4, "little") + head + body


def _chained(axes: Mapping[str, Any] | None = None, **more: Any) -> Section:
    """Of one array on two grids."""
    array = {**_ARRAY, "line": 1, "run": 1, **(axes or {})}
    return b"T", _section([_EVEN, _EVEN], arrays=[array], **more)[1]


def _classed(*sizes: int) -> dict[str, Any]:
    """A class for every index."""
    texts = ["".join(chr(48 + i) for i in range(size)) for size in sizes]
    axes = dict(zip(("rows", "columns", "places"), texts, strict=True))
    return {"shape": list(sizes), "axes": axes}


def _word(value: int) -> bytes:
    return value.to_bytes(4, "little")


def _overlong() -> bytes:
    """A section that says it is longer than the file."""
    data = bytearray(_file())
    at = len(data) - CHECK.size - 8
    data[at : at + 8] = (1 << 60).to_bytes(8, "little")
    return bytes(data)


def _forgetful(packed: bytes) -> bytes:
    """Its decompressor is told to remember a gigabyte."""
    return packed[:1] + (1 << 30).to_bytes(4, "little") + packed[5:]
