"""Criteria that need no data."""

import numpy as np
import onnx_graphsurgeon as gs

from hwprune.graph.channels import Coupling
from hwprune.network.run import Data
from hwprune.pruning.ranking import Ranking, alike, ranked


def magnitude(graph: gs.Graph, coupling: Coupling, x: Data, seed: int) -> dict[str, Ranking]:
    """Share of the squared weights of all members."""
    tensors = graph.tensors()
    rankings = {}
    for group in coupling.prunable:
        scores = np.zeros(group.width)
        for member in group.members:
            rows = np.moveaxis(tensors[member.tensor].values, member.axis, 0)[member.positions]
            scores += np.square(rows, dtype=np.float64).reshape(group.width, -1).sum(1)
        rankings[group.name] = ranked(scores / max(scores.sum(), 1e-30))
    return rankings


def random(graph: gs.Graph, coupling: Coupling, x: Data, seed: int) -> dict[str, Ranking]:
    """Any order, every channel alike: the baseline that a criterion must beat."""
    rng = np.random.default_rng(seed)
    return {g.name: alike(rng.permutation(g.width)) for g in coupling.prunable}
