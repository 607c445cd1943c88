"""What could be pruned in a network; of a file it is told without torch, in seconds."""

from collections.abc import Mapping
from pathlib import Path

from hwprune.frontend.models import load_model
from hwprune.graph.cost import macs, node_macs, params
from hwprune.graph.coupling import couple
from hwprune.report.inspection import BranchInfo, GroupInfo, Inspection


def inspect(
    model: str | None,
    weights: Path | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> Inspection:
    """What could be pruned in a network, before anything is measured."""
    loaded = load_model(model, weights, shapes or {})
    coupling = couple(loaded.graph)
    nodes = {n.name: node_macs(n) for n in loaded.graph.nodes}
    total = max(1, sum(nodes.values()))

    def share(names: tuple[str, ...]) -> float:
        return sum(nodes.get(n, 0) for n in dict.fromkeys(names)) / total

    groups = tuple(
        GroupInfo(
            g.name,
            g.width,
            1,
            share((*g.producers, *g.consumers)),
            g.producers,
            g.consumers,
            g.frozen,
        )
        for g in coupling.groups
    )
    branches = tuple(BranchInfo(b.name, b.nodes, share(b.nodes)) for b in coupling.branches)
    inputs = {i.name: tuple(int(d) for d in i.shape) for i in loaded.graph.inputs}
    return Inspection(
        loaded.name,
        loaded.source,
        inputs,
        macs(loaded.graph),
        params(loaded.graph),
        groups,
        branches,
        len(loaded.graph.nodes),
    )
