"""Which channels of each group go first, and what it costs."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs
import torch
from numpy.typing import NDArray

from hwprune.graph.channels import ChannelGroup, Coupling
from hwprune.graph.cost import output_axis, weight_input
from hwprune.network import linear
from hwprune.network.run import Data
from hwprune.pruning.obs import Consumer, eliminate
from hwprune.pruning.statistics import LayerStatistics, collect
from hwprune.registry import unknown

RIDGE = 1e-2  # of the mean variance of a layer's columns


@dataclass(frozen=True, slots=True)
class Ranking:
    """Removal order of one group's channels, least important first.

    `error[k]` estimates the loss when the first k of `order` are gone; error[0] = 0, never falling.
    """

    order: NDArray[np.int64]
    error: NDArray[np.float64]

    def kept(self, width: int) -> tuple[int, ...]:
        """The channels that go last, ascending: what stays of the group at that width."""
        return tuple(sorted(int(i) for i in self.order[len(self.order) - width :]))


Criterion = Callable[[gs.Graph, Coupling, Data, int], dict[str, Ranking]]


def rank_channels(
    graph: gs.Graph, coupling: Coupling, x: Data, criterion: str = "obs", seed: int = 0
) -> dict[str, Ranking]:
    """Ranks the channels of every prunable group.

    Args:
        graph: The network.
        coupling: Its coupling.
        x: Calibration samples; labels are not needed.
        criterion: A name in `CRITERIA`.
        seed: Decides whatever is sampled.

    Raises:
        UsageError: There is no such criterion.
    """
    if criterion not in CRITERIA:
        raise unknown("criterion", criterion, CRITERIA)
    return CRITERIA[criterion](graph, coupling, x, seed)


def obs(graph: gs.Graph, coupling: Coupling, x: Data, seed: int) -> dict[str, Ranking]:
    """Optimal brain surgeon: loss left after the remaining channels compensate (label-free)."""
    statistics = collect(graph, x, seed)
    nodes = {node.name: node for node in graph.nodes}
    return {g.name: _obs_group(g, nodes, statistics, coupling) for g in coupling.prunable}


def magnitude(graph: gs.Graph, coupling: Coupling, x: Data, seed: int) -> dict[str, Ranking]:
    """Share of the squared weights of all members (data-free)."""
    tensors = graph.tensors()
    rankings = {}
    for group in coupling.prunable:
        scores = np.zeros(group.width)
        for member in group.members:
            rows = np.moveaxis(tensors[member.tensor].values, member.axis, 0)[member.positions]
            scores += np.square(rows, dtype=np.float64).reshape(group.width, -1).sum(1)
        rankings[group.name] = _ranked(scores / max(scores.sum(), 1e-30))
    return rankings


def random(graph: gs.Graph, coupling: Coupling, x: Data, seed: int) -> dict[str, Ranking]:
    """Any order, every channel alike: the baseline that a criterion must beat."""
    rng = np.random.default_rng(seed)
    return {
        g.name: Ranking(rng.permutation(g.width), np.arange(g.width + 1) / g.width)
        for g in coupling.prunable
    }


CRITERIA: dict[str, Criterion] = {"obs": obs, "magnitude": magnitude, "random": random}


def _obs_group(
    group: ChannelGroup,
    nodes: dict[str, gs.Node],
    statistics: dict[str, LayerStatistics],
    coupling: Coupling,
) -> Ranking:
    found = [_consumer(group, nodes[name], statistics.get(name)) for name in group.consumers]
    consumers = [consumer for consumer in found if consumer is not None]
    if not consumers:
        return _ranked(_silencing(group, nodes, statistics))
    order, added = eliminate(consumers, group.width)
    return Ranking(order, np.concatenate([[0.0], np.cumsum(added)]))


def _consumer(
    group: ChannelGroup, node: gs.Node, statistics: LayerStatistics | None
) -> Consumer | None:
    """A consumer's part in the elimination; None for kinds of layers without a plain product."""
    if statistics is None or linear.groups(statistics.layer) > 1:
        return None
    weight, kernel = node.inputs[weight_input(node)], statistics.layer.weight[0, 0].numel()
    axis = 1 - output_axis(node)
    members = [m for m in group.members if m.tensor == weight.name and m.axis == axis]
    if not members:
        return None
    positions = np.concatenate([member.positions for member in members], 1)
    columns = torch.as_tensor((positions[:, :, None] * kernel + np.arange(kernel)).ravel())
    covariance = statistics.covariance[0]
    ridge = RIDGE * float(covariance.diagonal().mean().clamp_min(1e-12))
    inverse = torch.linalg.inv(covariance + ridge * torch.eye(len(covariance), dtype=torch.float64))
    # One weight per layer: the repair, too, treats its outputs alike (measured: better than each).
    scale = statistics.sensitivity.mean().sqrt()
    matrix = scale * linear.weight_matrix(statistics.layer)[0].double()
    size = len(columns) // group.width
    return Consumer(matrix[:, columns], inverse[columns][:, columns], size)


def _silencing(
    group: ChannelGroup, nodes: dict[str, gs.Node], statistics: dict[str, LayerStatistics]
) -> NDArray[np.float64]:
    """For groups that no layer reads (attention's queries and keys): loss of muting producers."""
    scores = np.zeros(group.width)
    for name in group.producers:
        node = nodes[name]
        for member in group.members:
            is_output = member.axis == output_axis(node)
            if (
                name in statistics
                and member.tensor == node.inputs[weight_input(node)].name
                and is_output
            ):
                scores += statistics[name].silencing.numpy()[member.positions].sum(1)
    return scores


def _ranked(scores: NDArray[np.float64]) -> Ranking:
    order = np.argsort(scores, kind="stable").astype(np.int64)
    return Ranking(order, np.concatenate([[0.0], np.cumsum(scores[order])]))
