"""The optimal brain surgeon as a criterion: what is lost once the remaining channels compensate."""

import numpy as np
import onnx_graphsurgeon as gs
import torch
from numpy.typing import NDArray

from hwprune.graph.channels import ChannelGroup, Coupling
from hwprune.network import linear
from hwprune.network.run import Data
from hwprune.pruning.obs import Consumer, eliminate
from hwprune.pruning.ranking import Ranking, ranked
from hwprune.pruning.slices import columns_read, rows_made
from hwprune.pruning.statistics import LayerStatistics, collect

RIDGE = 1e-2  # of the mean variance of a layer's columns


def obs(graph: gs.Graph, coupling: Coupling, x: Data, seed: int) -> dict[str, Ranking]:
    """Optimal brain surgeon: loss left after the remaining channels compensate (label-free)."""
    statistics = collect(graph, x, seed)
    nodes = {node.name: node for node in graph.nodes}
    return {g.name: _obs_group(g, nodes, statistics, coupling) for g in coupling.prunable}


def _obs_group(
    group: ChannelGroup,
    nodes: dict[str, gs.Node],
    statistics: dict[str, LayerStatistics],
    coupling: Coupling,
) -> Ranking:
    found = [_consumer(group, nodes[name], statistics.get(name)) for name in group.consumers]
    consumers = [consumer for consumer in found if consumer is not None]
    if not consumers:
        return ranked(_silencing(group, nodes, statistics))
    order, added = eliminate(consumers, group.width)
    return Ranking(order, np.concatenate([[0.0], np.cumsum(added)]))


def _consumer(
    group: ChannelGroup, node: gs.Node, statistics: LayerStatistics | None
) -> Consumer | None:
    """A consumer's part in the elimination; None for kinds of layers without a plain product."""
    if statistics is None:
        return None
    positions = columns_read(group, node, statistics.layer)
    if positions is None:
        return None
    columns = positions.ravel()
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
        rows = rows_made(group, nodes[name])
        if name in statistics and rows is not None:
            scores += statistics[name].silencing[rows].sum(1).numpy()
    return scores
