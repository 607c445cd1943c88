"""What could be pruned in a network; of a file it is told without torch, in seconds."""

from collections.abc import Iterable, Mapping
from itertools import starmap
from math import prod
from pathlib import Path

import numpy as np

from hwprune.frontend.models import load_model
from hwprune.graph.channels import ChannelGroup, Coupling
from hwprune.graph.cost import macs, node_macs, params
from hwprune.graph.coupling import couple
from hwprune.graph.safety import MAX_BYTES
from hwprune.report.inspection import BranchInfo, GroupInfo, Inspection


def inspect(
    model: str | None,
    weights: Path | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    max_bytes: int = MAX_BYTES,
) -> Inspection:
    """What could be pruned in a network, before anything is measured."""
    loaded = load_model(model, weights, shapes or {}, max_bytes=max_bytes)
    coupling = couple(loaded.graph)
    nodes = {n.name: node_macs(n) for n in loaded.graph.nodes}
    total_macs, total_params = macs(loaded.graph), params(loaded.graph)
    made = {n.name: [t.name for t in n.outputs] for n in loaded.graph.nodes}
    sizes = {t.name: prod(t.shape) for t in loaded.graph.tensors().values() if t.shape is not None}

    def macs_share(names: Iterable[str]) -> float:
        return sum(nodes.get(n, 0) for n in dict.fromkeys(names)) / max(1, total_macs)

    def group(index: int, g: ChannelGroup) -> GroupInfo:
        tensors = {member.tensor for member in g.members}
        return GroupInfo(
            g.name,
            g.width,
            _step(coupling, index, (t for name in g.producers for t in made[name])),
            macs_share((*g.producers, *g.consumers)),
            g.producers,
            g.consumers,
            g.frozen,
            sum(sizes[t] for t in tensors) / max(1, total_params),
        )

    branches = tuple(BranchInfo(b.name, b.nodes, macs_share(b.nodes)) for b in coupling.branches)
    inputs = {i.name: tuple(int(d) for d in i.shape) for i in loaded.graph.inputs}
    return Inspection(
        loaded.name,
        loaded.source,
        inputs,
        total_macs,
        total_params,
        tuple(starmap(group, enumerate(coupling.groups))),
        branches,
        len(loaded.graph.nodes),
    )


def _step(coupling: Coupling, index: int, made: Iterable[str]) -> int:
    """How many channels of `made`, the tensors that a group's layers make, go at once."""
    layouts = (layout for name in made for layout in coupling.layouts.get(name, ()))
    counts = [int(np.count_nonzero(layout.group == index)) for layout in layouts]
    return max(1, min(filter(None, counts), default=0) // max(1, coupling.groups[index].width))
