"""Candidates of the search: a configuration becomes a slim, repaired network with a loss."""

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_graphsurgeon as gs
import torch

from hwprune.graph.channels import Coupling
from hwprune.graph.slim import slim
from hwprune.network.run import outputs
from hwprune.network.twin import to_module
from hwprune.plan import Configuration, Plan
from hwprune.prune.calibrate import divergence
from hwprune.prune.criteria import Ranking
from hwprune.prune.reconstruct import Reference

_BITS = {"int8": 8}


def plan_for(
    c: Configuration, coupling: Coupling, rankings: Mapping[str, Ranking], weight_bits: int
) -> Plan:
    """Fixes which channels stay: the ones the criterion removes last."""
    keep = {}
    for name, width in c.widths.items():
        full = coupling.full[name]
        if width < full:
            keep[name] = tuple(sorted(int(i) for i in rankings[name].order[full - width :]))
    quantised = [n for n, kernel in c.kernels.items() if kernel in _BITS]
    return Plan(
        keep,
        c.dropped,
        dict(c.kernels),
        dict.fromkeys(quantised, weight_bits),
        dict.fromkeys(quantised, 8),
    )


def repaired(graph: gs.Graph, plan: Plan, reference: Reference) -> gs.Graph:
    """A slim copy of `graph` with weights refitted by least squares."""
    slimmed = slim(graph, reference.coupling, plan.keep, plan.dropped)
    reference.reconstruct(slimmed, plan.keep)
    return slimmed


@dataclass(frozen=True, slots=True)
class Evaluator:
    """Slims, repairs and judges candidates against the original, on unlabelled inputs."""

    graph: gs.Graph
    coupling: Coupling
    rankings: Mapping[str, Ranking]
    reference: Reference
    search_x: torch.Tensor
    search_outputs: list[torch.Tensor]

    def loss(self, plan: Plan) -> float:
        """Divergence from the original's answers after repair, in fp32."""
        slimmed = repaired(self.graph, plan, self.reference)
        return divergence(self.search_outputs, outputs(to_module(slimmed), self.search_x))
