"""Weights of few levels that stand in words of one or two bytes (`hwprune.export.storage`).

A word means nothing by itself: its digits to the base of the levels are weights, which have rows,
columns and places. The graph tells their shape; it is where the table that words are looked up in
is cut into it.
"""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from hwprune.codec.skeleton import Hole, nodes
from hwprune.codec.tables import entropy

Integers = NDArray[np.int32]
_BASES, _SAMPLE = 40, 1 << 16  # that are tried, and words on which
_WORDS = {int(onnx.TensorProto.UINT8), int(onnx.TensorProto.UINT16)}
_ON_THE_WAY = {"Reshape", "Slice"}


def unpacked_shapes(model: bytes, found: Sequence[Hole]) -> dict[int, tuple[int, ...]]:
    """By the index of a hole that holds words, the shape of the weights that they stand for."""
    words = {h.name: i for i, h in enumerate(found) if h.kind in _WORDS and len(h.shape) == 1}
    if not words:
        return {}
    numbers = {hole.name: hole for hole in found if hole.kind == onnx.TensorProto.INT64}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in nodes(model):
        for name in node.input:
            readers.setdefault(name, []).append(node)
    named = ((index, _shape(name, readers)) for name, index in words.items())
    shapes = {
        index: tuple(int(n) for n in numbers[shape].read(model).reshape(-1))
        for index, shape in named
        if shape and shape in numbers
    }
    return {index: shape for index, shape in shapes.items() if min(shape, default=0) > 0}


def _shape(name: str, readers: Mapping[str, list[onnx.NodeProto]]) -> str:
    """The name of the shape that words are given at last, behind Cast and Gather; "" if none is."""
    node = _reader(name, "Cast", readers)
    node = _reader(node.output[0], "Gather", readers) if node else None
    shape = ""
    while node is not None:
        shape = node.input[1] if node.op_type == "Reshape" and len(node.input) > 1 else shape
        following = readers.get(node.output[0], [])
        alone = len(following) == 1 and following[0].op_type in _ON_THE_WAY
        node = following[0] if alone else None
    return shape


def _reader(
    name: str, operator: str, readers: Mapping[str, list[onnx.NodeProto]]
) -> onnx.NodeProto | None:
    found = readers.get(name, [])
    return found[0] if len(found) == 1 and found[0].op_type == operator else None


def digits(words: NDArray[Any], shape: tuple[int, ...]) -> tuple[Integers, int, int] | None:
    """Numbers that words hold, to a word as many as the shape asks for, the most significant first.

    Returns:
        Numbers of that shape, their base (that to which they have the least entropy), and how many
        a word holds; None where it cannot be.
    """
    count = prod(shape)
    each, most = -(-count // len(words)), 256**words.itemsize
    if not 2 <= each <= 8 * words.itemsize or -(-count // each) != len(words):
        return None
    least = max(2, int(int(words.max()) ** (1 / each)))
    bases = [b for b in range(least, least + _BASES) if int(words.max()) < b**each <= most]
    if not bases:
        return None
    base = min(bases, key=lambda base: entropy(np.bincount(_digits(words[:_SAMPLE], base, each))))
    found = _digits(words, base, each)
    return None if found[count:].any() else (found[:count].reshape(shape), base, each)


def _digits(words: NDArray[Any], base: int, each: int) -> Integers:
    powers = base ** np.arange(each, dtype=np.int32)[::-1]
    found: Integers = words.astype(np.int32)[:, None] // powers % np.int32(base)
    return found.reshape(-1)
