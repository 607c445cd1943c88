"""Cutting channels and branches out of a graph."""

from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from hwprune.errors import InfeasibleError, UsageError
from hwprune.graph.channels import Coupling, Keep
from hwprune.graph.read import clone
from hwprune.graph.repair import repair_node
from hwprune.graph.tidy import bypass


def slim(
    graph: gs.Graph, coupling: Coupling, keep: Keep, dropped: frozenset[str] = frozenset()
) -> gs.Graph:
    """A new graph with only the channels in `keep` and without the branches `dropped`.

    Names of nodes and tensors stay. `graph` must be the one that `coupling` was made of.

    Raises:
        UsageError: An unknown group, branch or channel, or a frozen group that would shrink.
        InfeasibleError: A group would lose all its channels.
    """
    keep = {name: _checked(coupling, name, channels) for name, channels in keep.items()}
    result = clone(graph)
    widths = {name: len(channels) for name, channels in keep.items()}
    _cut_weights(result, coupling, keep)
    for name, tensor in result.tensors().items():
        if isinstance(tensor, gs.Variable):
            tensor.shape = list(coupling.shape(name, widths))
    for before, node in zip(graph.nodes, result.nodes, strict=True):
        repair_node(before, node, coupling, keep)
    _drop(result, coupling, dropped)
    return result


def _checked(
    coupling: Coupling, name: str, channels: Sequence[int] | NDArray[np.int64]
) -> NDArray[np.int64]:
    if name not in coupling.full:
        raise UsageError(f"there is no channel group {name!r}")
    kept, group = np.unique(np.asarray(channels, np.int64)), coupling.group(name)
    if not len(kept):
        raise InfeasibleError(f"group {name!r} would lose all its {group.width} channels")
    if kept[0] < 0 or kept[-1] >= group.width or len(kept) != len(channels):
        raise UsageError(f"group {name!r} has channels 0 to {group.width - 1}, each once")
    if group.frozen and len(kept) < group.width:
        raise UsageError(f"group {name!r} cannot be pruned: {group.frozen}")
    return kept


def _cut_weights(graph: gs.Graph, coupling: Coupling, keep: Keep) -> None:
    gone: dict[tuple[str, int], list[NDArray[np.int64]]] = {}
    for group in coupling.groups:
        if group.name in keep:
            removed = np.setdiff1d(np.arange(group.width), keep[group.name])
            for member in group.members:
                place = (member.tensor, member.axis)
                gone.setdefault(place, []).append(member.positions[removed].ravel())
    tensors = graph.tensors()
    for (name, axis), positions in gone.items():
        tensor = tensors[name]
        tensor.values = np.delete(tensor.values, np.concatenate(positions), axis)


def _drop(graph: gs.Graph, coupling: Coupling, dropped: frozenset[str]) -> None:
    branches = {branch.name: branch for branch in coupling.branches}
    for name in sorted(dropped):
        if name not in branches:
            raise UsageError(f"there is no removable branch {name!r}")
    nodes = {node.name: node for node in graph.nodes}
    for name in sorted(dropped):
        bypass(graph, nodes[branches[name].add], branches[name].kept_input)
    if dropped:
        _merge_rectifiers(graph)
        graph.cleanup().toposort()


def _merge_rectifiers(graph: gs.Graph) -> None:
    """Where a branch and its Add are gone, Relu(Relu(x)) is left, which is Relu(x)."""
    for node in graph.nodes:
        sources = node.inputs[0].inputs if node.op == "Relu" and node.inputs else []
        if any(source.op == "Relu" for source in sources):
            bypass(graph, node)
