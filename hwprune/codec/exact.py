"""Lossless coding of any tensor: a form that suits what is in it."""

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from hwprune.codec.arrays import Symbols, chosen
from hwprune.codec.coded import Coded, view
from hwprune.codec.prediction import predictor, rest_of_integers, written
from hwprune.codec.skeleton import Hole
from hwprune.codec.tables import entropy
from hwprune.codec.words import digits

_SMALL = 1 << 11  # bytes: fewer are compressed together with others'
_COLOURS = 1024  # distinct values that a palette may have
_SPARSE = 0.3  # of the elements: so many zeros stand apart
_WORTH = 7.6  # bits of a byte: a plane above is no shorter coded
_PACKED = {  # element types that share bytes: bits, and whether they have a sign
    getattr(onnx.TensorProto, name): form
    for name, form in {"INT4": (4, 1), "UINT4": (4, 0), "INT2": (2, 1), "UINT2": (2, 0)}.items()
    if hasattr(onnx.TensorProto, name)
}


def exact(hole: Hole, model: bytes, unpacked: tuple[int, ...] | None = None) -> Coded:
    """A tensor of a serialised model, to the last bit.

    `unpacked`: of words, the shape of the weights that they stand for (`hwprune.codec.words`).
    """
    data, dtype = np.frombuffer(model, np.uint8, hole.size, hole.start), hole.dtype
    if hole.size < _SMALL:
        return _plain(data, dtype.itemsize if dtype is not None else 1)
    if hole.kind in _PACKED:
        return _packed(data, hole)
    if dtype is None:
        item = _item(hole)
        return _planes(data.view(f"<u{item}"), f"bytes/{item}")
    numbers = digits(data.view(dtype), unpacked) if unpacked else None
    if numbers is not None:
        return _words(*numbers, dtype.itemsize)
    values = data.view(dtype).reshape(view(hole.shape))
    if dtype.itemsize == 1:
        return _bytes(values)
    raw = values.view(f"<u{dtype.itemsize}")
    colours, index = np.unique(raw, return_inverse=True)
    if len(colours) <= min(_COLOURS, raw.size // 8):
        return _palette(values, colours, index.reshape(raw.shape))
    if np.count_nonzero(raw) < (1 - _SPARSE) * raw.size:
        return _sparse(raw, str(dtype))
    real = dtype.kind == "f" and bool(np.isfinite(values).all())
    return _planes(raw, str(dtype), values if real else None)


def _item(hole: Hole) -> int:
    """Bytes of an element of a type that numpy does not have; 1 where that is not known."""
    sizes = [size for size in (2, 4, 8) if hole.size == size * prod(hole.shape)]
    return sizes[0] if sizes else 1


def _plain(data: NDArray[np.uint8], item: int) -> Coded:
    shuffled = data.reshape(-1, item).T.tobytes()
    return Coded({"form": "plain", "bytes": len(data), "item": item}, pooled=shuffled)


def _bytes(values: NDArray[Any]) -> Coded:
    """Integers of one byte: the farther from their middle, the rarer."""
    signed = values.astype(np.int32)
    centre = int(np.median(signed)) if values.dtype.kind == "u" else 0
    entry = {"form": "planes", "planes": "a", "count": values.size, "centre": centre}
    classed = values.shape[0] > 1
    family = "integers" if classed else f"bytes/{values.size}"
    return _integers(entry, Symbols(signed - centre, family, classed))


def _integers(entry: dict[str, Any], plain: Symbols) -> Coded:
    """Of kernels what places leave that are foretold, if that is shorter."""
    foretold = predictor(plain.values) if plain.classed else None
    if foretold is None:
        return Coded(entry, (plain,))
    left = replace(plain, values=rest_of_integers(plain.values, foretold))
    if chosen([plain], 0).bits <= chosen([left], 0).bits:
        return Coded(entry, (plain,))
    return Coded(entry | {"foretold": written(foretold)}, (left,))


def _words(numbers: NDArray[np.int32], levels: int, each: int, item: int) -> Coded:
    """Weights of few levels, the most frequent one zero."""
    centre = int(np.bincount(numbers.reshape(-1)).argmax())
    values = (numbers - np.int32(centre)).reshape(view(numbers.shape))
    entry = {"form": "words", "levels": levels, "each": each, "item": item, "centre": centre}
    return _integers(entry, Symbols(values, f"levels/{levels}", values.shape[0] > 1))


def _packed(data: NDArray[np.uint8], hole: Hole) -> Coded:
    """Elements of 4 or 2 bits, one by one."""
    bits, signed = _PACKED[hole.kind]
    parts = data[:, None] >> np.arange(0, 8, bits)
    values = (parts & ((1 << bits) - 1)).reshape(-1).astype(np.int32)
    if signed:
        values -= (values >> (bits - 1)) << bits
    count = int(np.prod(hole.shape))
    shape = view(hole.shape) if count == values.size else (1, 1, values.size)
    entry = {"form": "packed", "bits": bits, "count": values.size}
    return _integers(entry, Symbols(values.reshape(shape), f"bits/{bits}", shape[0] > 1))


def _palette(values: NDArray[Any], colours: NDArray[Any], index: NDArray[np.intp]) -> Coded:
    """Few values, told by their rank; the most frequent one is zero."""
    order = np.argsort(colours.view(values.dtype), kind="stable")
    ranks = np.empty_like(order)
    ranks[order] = np.arange(len(order))
    centre = int(ranks[np.argmax(np.bincount(index.reshape(-1)))])
    entry = {
        "form": "palette",
        "colours": len(colours),
        "item": values.dtype.itemsize,
        "centre": centre,
    }
    array = Symbols((ranks[index] - centre).astype(np.int32), "ranks", values.shape[0] > 1)
    return Coded(entry, (array,), pooled=colours[order].tobytes())


def _sparse(raw: NDArray[Any], family: str) -> Coded:
    """Where something is, and what is there."""
    there = raw != 0
    mask = Symbols(there.astype(np.int32), "there", raw.shape[0] > 1)
    rest = _planes(raw[there], f"{family}/sparse")
    entry = {"form": "sparse", **{k: v for k, v in rest.entry.items() if k != "form"}}
    return Coded(entry, (mask, *rest.arrays), verbatim=rest.verbatim)


def _planes(raw: NDArray[Any], family: str, reals: NDArray[Any] | None = None) -> Coded:
    """Byte by byte of every element: those of exponents have an order, those of mantissas none.

    Exponents (the last byte) go by how large the `reals` are around an element.
    """
    split = np.ascontiguousarray(raw).view(np.uint8).reshape(raw.size, -1)
    marks, arrays, verbatim = "", [], []
    for i, plane in enumerate(split.T):
        coded = entropy(np.bincount(plane)) < _WORTH
        marks += "a" if coded else "v"
        if coded:
            shape = view(raw.shape)
            exponents = reals if i == split.shape[1] - 1 and shape[0] > 1 else None
            own = Symbols(plane.reshape(shape), f"{family}/{i}", exponents is not None, exponents)
            arrays.append(own)
        else:
            verbatim.append(plane)
    entry = {"form": "planes", "planes": marks, "count": raw.size}
    return Coded(entry, tuple(arrays), verbatim=tuple(verbatim))
