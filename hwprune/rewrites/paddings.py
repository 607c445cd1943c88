"""Small channel counts, filled up to what the target computes at once."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from hwprune.graph.channels import ChannelGroup, Coupling, Member
from hwprune.graph.coupling import couple
from hwprune.rewrites.edit import Rewriting, on_a_copy

_READERS = frozenset({"Conv", "Gemm"})
_CHANNELWISE = frozenset(
    {"Relu", "LeakyRelu", "PRelu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Elu"}
    | {"Add", "Mul", "MaxPool", "AveragePool", "GlobalAveragePool", "Flatten"}
)


def padded_to(count: int) -> Rewriting:
    """The rewrite that gives `count` channels to all that have half as many or more.

    A kernel that works on blocks of channels takes as long for a part of a block, or falls back on
    one that has none. The new channels are copies of the first, and nobody reads them: weights on
    them are zero. Exact.

    Precondition: the channels lie side by side along whole axes, and only layers that treat each
    of them alike stand between those that make them and those that read them.
    """
    return on_a_copy(partial(_pad, count=count))


def _pad(graph: gs.Graph, count: int) -> None:
    coupling = couple(graph)
    widths = {
        group.name: count
        for group in coupling.prunable
        if count <= 2 * group.width < 2 * count and _is_simple(graph, coupling, group)
    }
    if widths:
        _widen(graph, coupling, widths)


def _is_simple(graph: gs.Graph, coupling: Coupling, group: ChannelGroup) -> bool:
    tensors = graph.tensors()
    if not group.producers or not group.consumers:
        return False
    if not all(_is_whole(m, tensors[m.tensor], group.width) for m in group.members):
        return False
    members = {member.tensor for member in group.members}
    spanned = {
        name for name, axes in coupling.shapes.items() if any(group.name in a.groups for a in axes)
    }
    if any(isinstance(tensors[name], gs.Constant) for name in spanned - members):
        return False
    touching = [n for n in graph.nodes if any(t.name in spanned for t in (*n.inputs, *n.outputs))]
    return all(_is_able(node) for node in touching)


def _is_whole(member: Member, tensor: gs.Constant, width: int) -> bool:
    """Whether the channels are the positions of one axis, in order."""
    positions = np.arange(tensor.shape[member.axis])[:, None]
    return len(positions) == width and np.array_equal(member.positions, positions)


def _is_able(node: gs.Node) -> bool:
    if node.op == "Conv":
        return node.attrs.get("group", 1) == 1 or _is_depthwise(node)
    return node.op in _READERS | _CHANNELWISE


def _is_depthwise(node: gs.Node) -> bool:
    return node.op == "Conv" and bool(node.attrs.get("group", 1) == node.inputs[0].shape[1] > 1)


def _widen(graph: gs.Graph, coupling: Coupling, widths: Mapping[str, int]) -> None:
    tensors = graph.tensors()
    depthwise = [node for node in graph.nodes if _is_depthwise(node)]
    read = {name: axis for node in graph.nodes for name, axis in _input_axis(node)}
    for group in coupling.groups:
        if group.name in widths:
            for member in group.members:
                more = widths[group.name] - group.width
                unread = read.get(member.tensor) == member.axis
                constant = tensors[member.tensor]
                constant.values = _extended(constant.values, member.axis, more, unread)
    for name, tensor in tensors.items():
        if isinstance(tensor, gs.Variable):
            tensor.shape = list(coupling.shape(name, widths))
    for node in depthwise:
        node.attrs["group"] = node.inputs[0].shape[1]


def _input_axis(node: gs.Node) -> list[tuple[str, int]]:
    """The weight of a layer that mixes channels, and its axis of those that are read."""
    if node.op == "Conv" and node.attrs.get("group", 1) == 1:
        return [(node.inputs[1].name, 1)]
    if node.op == "Gemm":
        return [(node.inputs[1].name, int(node.attrs.get("transB", 0)))]
    return []


def _extended(values: NDArray[Any], axis: int, more: int, unread: bool) -> NDArray[Any]:
    first = np.take(values, [0] * more, axis)
    return np.concatenate([values, np.zeros_like(first) if unread else first], axis)
