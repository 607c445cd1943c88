"""Sliced and padded shortcuts as strided convolutions, which keep the runtime's fast layout."""

import math
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from hwprune.graph.read import to_proto
from hwprune.rewrites.edit import leaves, on_a_copy

_MOVES = frozenset({"Slice", "Pad", "Gather"})
_EXACT = 2**24  # integers up to here are exact in fp32


@dataclass(frozen=True, slots=True)
class _Selection:
    """Output channel o is input channel `channels[o]` (-1: zero), every `strides`-th position."""

    channels: NDArray[np.int64]
    strides: tuple[int, int]


@on_a_copy
def convolve_shortcuts(graph: gs.Graph) -> None:
    """Writes strided, channel-padded shortcuts as 1x1 convolutions with a 0/1 weight.

    Slice and Pad, as in the option-A shortcut of He et al. 2016, throw the residual stream out of
    the runtime's blocked layout, and Add and Relu fuse no more. The convolution computes the very
    same values and takes the name of the last node it replaces.

    Precondition: a chain of Slice, Pad and Gather, a Pad among them, that takes every s-th pixel
    of whole channels, or zeros.
    """
    for chain in _chains(graph):
        selection = _selection(chain, graph)
        if selection is not None:
            _replace(chain, selection)


def _chains(graph: gs.Graph) -> list[list[gs.Node]]:
    """Longest runs of moves with a Pad among them, inside which nobody else reads."""
    found = []
    for node in graph.nodes:
        if not _moves(node) or _previous(node) is not None:
            continue
        chain = [node]
        while (follower := _next(chain[-1], graph)) is not None:
            chain.append(follower)
        found.append(chain)
    return [chain for chain in found if any(node.op == "Pad" for node in chain)]


def _moves(node: gs.Node) -> bool:
    images = all(len(t.shape) == 4 for t in (node.inputs[0], node.outputs[0]))
    steered = all(isinstance(t, gs.Constant) for t in node.inputs[1:] if t.name)
    return node.op in _MOVES and images and steered and isinstance(node.inputs[0], gs.Variable)


def _previous(node: gs.Node) -> gs.Node | None:
    """The move in front of `node`, if it belongs to the same chain."""
    source = node.inputs[0]
    if not source.inputs or len(source.outputs) != 1:
        return None
    return source.inputs[0] if _moves(source.inputs[0]) else None


def _next(node: gs.Node, graph: gs.Graph) -> gs.Node | None:
    out = node.outputs[0]
    if len(out.outputs) != 1 or leaves(out, graph):
        return None
    return out.outputs[0] if _moves(out.outputs[0]) else None


def _selection(chain: list[gs.Node], graph: gs.Graph) -> _Selection | None:
    """What the chain selects, found by sending every position's own number through it."""
    source, out = chain[0].inputs[0], chain[-1].outputs[0]
    _, channels, height, width = (int(size) for size in source.shape)
    if source.shape[0] != 1 or channels * height * width >= _EXACT:
        return None
    numbers = np.arange(1, channels * height * width + 1, dtype=np.float32)
    part = gs.Graph(chain, inputs=[source], outputs=[out], opset=graph.opset).copy()
    feed = {source.name: numbers.reshape(1, channels, height, width)}
    (answer, *_) = ReferenceEvaluator(to_proto(part)).run(None, feed)
    found = np.asarray(answer, np.float32)
    first = found[0, :, 0, 0].astype(np.int64) - 1
    taken = np.where(first >= 0, first // (height * width), -1)
    strides = (math.ceil(height / found.shape[2]), math.ceil(width / found.shape[3]))
    selection = _Selection(taken, strides)
    same = np.array_equal(_applied(selection, numbers.reshape(channels, height, width)), found[0])
    return selection if same else None


def _applied(selection: _Selection, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """The selection computed directly, `C x H x W` -> `O x H/s x W/s`."""
    padded = np.concatenate([x, np.zeros_like(x[:1])])  # channel -1 is zero
    return padded[selection.channels][:, :: selection.strides[0], :: selection.strides[1]]


def _replace(chain: list[gs.Node], selection: _Selection) -> None:
    source, out, last = chain[0].inputs[0], chain[-1].outputs[0], chain[-1]
    taken = np.flatnonzero(selection.channels >= 0)
    weight = np.zeros((len(selection.channels), int(source.shape[1]), 1, 1), np.float32)
    weight[taken, selection.channels[taken]] = 1
    constant = gs.Constant(f"{last.name}/selection", weight)
    for node in chain:
        node.outputs.clear()
    last.op = "Conv"
    last.attrs = {"kernel_shape": [1, 1], "strides": list(selection.strides)}
    last.inputs = [source, constant]
    last.outputs = [out]
