"""Oracle: refined to the end, a norm is itself, rounded down."""

import numpy as np
import pytest
import torch

from hwprune.graph.coupling import couple
from hwprune.pruning.criteria import rank_channels
from hwprune.testing import networks

X = torch.zeros(2, 3, 8, 8)


@pytest.fixture
def graph():
    return networks.build(networks.residual, networks.dense, networks.separable)


def scores(graph, criterion="surp"):
    """Per group, of channels in their own order."""
    found = {}
    for name, ranking in rank_channels(graph, couple(graph), X, criterion).items():
        own = np.empty(len(ranking.order))
        own[ranking.order] = np.diff(ranking.error)
        found[name] = own
    return found


def slices(graph, group):
    """Of each weight of a group: channels x whatever belongs to them."""
    tensors = graph.tensors()
    for member in group.members:
        if tensors[member.tensor].values.ndim > 1:
            rows = np.moveaxis(tensors[member.tensor].values, member.axis, 0)[member.positions]
            yield rows.astype(np.float64).reshape(group.width, -1)


def test_channels_get_their_norms_in_units_of_each_tensors_mean(graph):
    found = scores(graph)
    for group in couple(graph).prunable:
        norms = [np.linalg.norm(rows, axis=1) for rows in slices(graph, group)]
        wanted = sum(own / own.mean() for own in norms)
        given = found[group.name] * wanted.sum()
        np.testing.assert_allclose(given, wanted, atol=1.5 * len(norms) / 256)


def test_the_scale_of_a_tensor_does_not_matter(graph):
    before, by_magnitude = scores(graph), scores(graph, "magnitude")
    group = couple(graph).prunable[0]
    members = [m for m in group.members if graph.tensors()[m.tensor].values.ndim > 1]
    assert len(members) > 1
    graph.tensors()[members[0].tensor].values *= np.float32(64)
    after = scores(graph)
    for name, own in before.items():
        np.testing.assert_allclose(after[name], own, atol=1e-3)
    changed = np.abs(scores(graph, "magnitude")[group.name] - by_magnitude[group.name])
    assert changed.max() > 0.01


def test_shifts_do_not_matter(graph):
    before = scores(graph)
    for tensor in graph.tensors().values():
        if getattr(tensor, "values", None) is not None and tensor.values.ndim == 1:
            tensor.values = (tensor.values * 100).astype(tensor.values.dtype)
    after = scores(graph)
    for name, own in before.items():
        np.testing.assert_array_equal(after[name], own)


def test_a_quiet_channel_goes_first_and_a_silent_one_costs_nothing(graph):
    coupling = couple(graph)
    group = coupling.prunable[0]
    for member in group.members:
        tensor = graph.tensors()[member.tensor]
        rows = np.moveaxis(tensor.values, member.axis, 0)
        rows[member.positions[2]] = 0
        rows[member.positions[1]] *= np.float32(0.01)
    ranking = rank_channels(graph, coupling, X, "surp")[group.name]
    assert ranking.order[:2].tolist() == [2, 1]
    assert ranking.error[1] == 0 < ranking.error[2]


def test_a_network_without_groups_has_no_rankings():
    graph = networks.build()
    coupling = couple(graph)
    found = rank_channels(graph, coupling, X, "surp")
    assert found.keys() == {g.name for g in coupling.prunable}
