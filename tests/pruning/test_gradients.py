"""Oracles: the divergence itself, exact invariances, channels that do nothing."""

import numpy as np
import pytest
import torch

from hwprune.graph.coupling import couple
from hwprune.network.run import divergence, outputs
from hwprune.network.twin import to_module
from hwprune.pruning.criteria import rank_channels
from hwprune.testing import networks


@pytest.fixture
def x():
    return torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def network():
    graph = networks.build(networks.plain, networks.residual)
    coupling = couple(graph)
    group = next(g for g in coupling.prunable if len(g.producers) == len(g.consumers) == 1)
    return graph, coupling, group


def nodes_of(graph, group):
    named = {n.name: n for n in graph.nodes}
    return named[group.producers[0]], named[group.consumers[0]]


@pytest.mark.parametrize("channel", [0, 2])
def test_fisher_is_the_divergence_that_a_small_channel_leaves(network, x, channel):
    graph, coupling, group = network
    _, reader = nodes_of(graph, group)
    weight = np.array(reader.inputs[1].values)
    weight[:, channel] *= 0.02
    reader.inputs[1].values = weight
    ranking = rank_channels(graph, coupling, x, "fisher")[group.name]
    before = outputs(to_module(graph), (x,))
    reader.inputs[1].values = weight * (np.arange(weight.shape[1]) != channel)[:, None, None]
    left = divergence(before, outputs(to_module(graph), (x,)))
    assert ranking.order[0] == channel
    assert ranking.error[1] == pytest.approx(left, rel=0.4)  # 64 pulls


@pytest.mark.parametrize("criterion", ["fisher", "taylor", "hessian", "orthoreg"])
def test_what_does_nothing_costs_nothing(network, x, criterion):
    graph, coupling, group = network
    writer, reader = nodes_of(graph, group)
    for node, at in ((writer, np.s_[3]), (reader, np.s_[:, 3])):
        weight = np.array(node.inputs[1].values)
        weight[at] = 0
        node.inputs[1].values = weight
    ranking = rank_channels(graph, coupling, x, criterion)[group.name]
    assert ranking.order[0] == 3
    assert ranking.error[1] == pytest.approx(0.0, abs=1e-12)
    assert ranking.error[2] > 0


@pytest.mark.parametrize("criterion", ["fisher", "taylor", "hessian", "orthoreg"])
def test_scaling_a_layer_and_its_reader_changes_nothing(network, x, criterion):
    graph, coupling, group = network
    before = rank_channels(graph, coupling, x, criterion)[group.name]
    writer, reader = nodes_of(graph, group)
    for tensor in writer.inputs[1:]:
        tensor.values = tensor.values * 4
    reader.inputs[1].values = reader.inputs[1].values / 4
    after = rank_channels(graph, coupling, x, criterion)[group.name]
    np.testing.assert_array_equal(before.order, after.order)
    np.testing.assert_allclose(before.error, after.error, rtol=1e-3)


def test_magnitude_is_changed_by_it(network, x):
    graph, coupling, group = network
    before = rank_channels(graph, coupling, x, "magnitude")[group.name]
    writer, _ = nodes_of(graph, group)
    weight = np.array(writer.inputs[1].values)
    weight[before.order[0]] *= 100
    writer.inputs[1].values = weight
    after = rank_channels(graph, coupling, x, "magnitude")[group.name]
    assert after.order[0] != before.order[0]
