"""Constant factors behind a layer, which its weights can hold."""

from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from hwprune.graph.matrix import bias_behind, is_plain
from hwprune.graph.tidy import bypass
from hwprune.rewrites.edit import is_constant, leaves, on_a_copy, producer

_MOVES = frozenset({"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Split"})
Channels = NDArray[np.int64]  # of the layer, for every element of a tensor


@dataclass(frozen=True, slots=True)
class _Path:
    """From a layer, with the Add of its bias if there is one, over nodes that move its values, each
    with the output that is taken.
    """

    layer: gs.Node
    bias: gs.Node | None
    moves: tuple[tuple[gs.Node, int], ...]


@on_a_copy
def fold_scales(graph: gs.Graph) -> None:
    """Multiplies weights and biases of a layer by the constant that stands behind it.

    Attention divides the products of queries and keys by a constant: one pass over the largest
    tensors of the network, which the weights of the queries take up for nothing. Equal up to
    rounding.

    Precondition: between layer and factor values are only moved, or multiplied by others (then the
    factor goes to the first operand that lets it), and nobody else reads the channels it reaches.
    """
    for node in [node for node in graph.nodes if node.op in ("Mul", "Div")]:
        found = _factor(node)
        if found is None:
            continue
        place, factor = found
        path = _path(node.inputs[place], graph)
        if path is not None and (channels := _reached(path)) is not None:
            _scale(path, channels, factor)
            bypass(graph, node, place)


def _factor(node: gs.Node) -> tuple[int, np.float32] | None:
    """Which input is scaled by which single constant, the shape staying as it is."""
    for place in (0,) if node.op == "Div" else (0, 1):
        scaled, constant = node.inputs[place], node.inputs[1 - place]
        if is_constant(scaled) or not is_constant(constant) or constant.values.size != 1:
            continue
        value = np.float32(constant.values.item())
        if list(scaled.shape) != list(node.outputs[0].shape) or not np.isfinite(value) or not value:
            return None
        return place, np.float32(1) / value if node.op == "Div" else value
    return None


def _path(tensor: gs.Tensor, graph: gs.Graph) -> _Path | None:
    """How values come from one layer to `tensor`, which one node alone reads."""
    moves: list[tuple[gs.Node, int]] = []
    while True:
        node = producer(tensor)
        if node is None or leaves(tensor, graph) or len(tensor.outputs) != 1:
            return None
        if is_plain(node) or node.op == "Conv":
            return _Path(node, None, tuple(reversed(moves)))
        if node.op == "Add":
            return _with_bias(node, moves, graph)
        if node.op == "MatMul":
            sources = (_path(operand, graph) for operand in node.inputs)
            return next((path for path in sources if path is not None), None)
        if node.op not in _MOVES:
            return None
        moves.append((node, next(i for i, t in enumerate(node.outputs) if t is tensor)))
        tensor = node.inputs[0]


def _with_bias(add: gs.Node, moves: list[tuple[gs.Node, int]], graph: gs.Graph) -> _Path | None:
    layer = next((n for t in add.inputs if (n := producer(t)) is not None), None)
    if layer is None or not is_plain(layer) or bias_behind(layer, graph) is not add:
        return None
    return _Path(layer, add, tuple(reversed(moves)))


def _reached(path: _Path) -> NDArray[np.bool_] | None:
    """Which channels of the layer come to the end of the path; None where others read them, too."""
    start = (path.bias or path.layer).outputs[0]
    axis = 1 if path.layer.op == "Conv" else len(start.shape) - 1
    line = np.arange(int(start.shape[axis]))
    spread = line.reshape([-1 if i == axis else 1 for i in range(len(start.shape))])
    values: Channels = np.broadcast_to(spread, tuple(start.shape))
    for node, taken in path.moves:
        parts = _moved(node, values)
        values = parts.pop(taken)
        if any(np.isin(part, values).any() for part in parts):
            return None
    return np.isin(line, values)


def _moved(node: gs.Node, values: Channels) -> list[Channels]:
    if node.op == "Transpose":
        order = node.attrs.get("perm", range(values.ndim)[::-1])
        return [values.transpose(order)]
    if node.op != "Split":
        return [values.reshape(tuple(node.outputs[0].shape))]
    axis = node.attrs.get("axis", 0) % values.ndim
    ends = np.cumsum([int(t.shape[axis]) for t in node.outputs])[:-1]
    return np.split(values, ends, axis)


def _scale(path: _Path, channels: NDArray[np.bool_], factor: np.float32) -> None:
    by_channel = np.where(channels, factor, np.float32(1)).astype(np.float32)
    layer = path.layer
    outputs_first = layer.op == "Conv" or bool(layer.attrs.get("transB", 0))
    rank = len(layer.inputs[1].shape)
    shape = [-1, *[1] * (rank - 1)] if outputs_first else [-1]
    _replace(layer, 1, by_channel.reshape(shape))
    if len(layer.inputs) > 2 and layer.inputs[2].name:
        _replace(layer, 2, by_channel)
    if path.bias is not None:
        vector = next(i for i, t in enumerate(path.bias.inputs) if is_constant(t))
        _replace(path.bias, vector, by_channel)


def _replace(node: gs.Node, place: int, factors: NDArray[np.float32]) -> None:
    old = node.inputs[place]
    values = np.ascontiguousarray(old.values * factors, np.float32)
    node.inputs[place] = gs.Constant(f"{old.name}/{node.name}/scaled", values)
