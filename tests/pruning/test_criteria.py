"""Oracles: duplicates, exhaustive least squares, and properties every ranking has."""

import numpy as np
import pytest
import torch

from hwprune.errors import DataError, UsageError
from hwprune.graph.coupling import couple
from hwprune.pruning.criteria import CRITERIA, rank_channels
from hwprune.pruning.obs import Consumer, eliminate
from hwprune.pruning.statistics import collect
from hwprune.testing import networks

BLOCKS = (networks.residual, networks.dense, networks.separable, networks.shuffled)


@pytest.fixture
def x():
    return torch.randn(96, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("head", [networks.pooled_head, networks.flat_head])
def test_rankings_are_orders_with_rising_errors(criterion, head, x):
    graph = networks.build(*BLOCKS, head=head)
    coupling = couple(graph)
    rankings = rank_channels(graph, coupling, x, criterion)
    assert rankings.keys() == {g.name for g in coupling.prunable}
    for group in coupling.prunable:
        ranking = rankings[group.name]
        assert sorted(ranking.order) == list(range(group.width))
        assert ranking.error.shape == (group.width + 1,)
        assert ranking.error[0] == 0
        assert np.all(np.diff(ranking.error) >= 0)
        assert np.isfinite(ranking.error).all()


@pytest.mark.parametrize("criterion", CRITERIA)
def test_same_seed_same_ranking(criterion, x):
    graph = networks.build(networks.residual)
    coupling = couple(graph)
    first, second = (rank_channels(graph, coupling, x, criterion, seed=3) for _ in range(2))
    for name in first:
        np.testing.assert_array_equal(first[name].order, second[name].order)
        np.testing.assert_array_equal(first[name].error, second[name].error)


def test_a_duplicate_goes_first_and_costs_nothing(x):
    graph = networks.build(networks.residual)
    coupling = couple(graph)
    group = next(g for g in coupling.prunable if len(g.producers) == len(g.consumers) == 1)
    producer = next(n for n in graph.nodes if n.name == group.producers[0])
    for tensor in producer.inputs[1:]:
        tensor.values[-1] = tensor.values[1]
    ranking = rank_channels(graph, coupling, x, "obs")[group.name]
    assert ranking.order[0] in (1, group.width - 1)
    assert ranking.error[1] < 0.01 * ranking.error[-1]


def test_elimination_error_is_the_least_squares_error():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(500, 8)) @ rng.normal(size=(8, 8))
    weight, blocks = rng.normal(size=(3, 8)), np.arange(8).reshape(4, 2)
    inverse = np.linalg.inv(rows.T @ rows / 500)
    consumer = Consumer(torch.tensor(weight), torch.tensor(inverse), 2)
    order, added = eliminate([consumer], 4)
    for gone in range(1, 4):
        stay = blocks[order[gone:]].ravel()
        wanted = rows @ weight.T
        best = np.linalg.lstsq(rows[:, stay], wanted, rcond=None)[0]
        left = np.square(wanted - rows[:, stay] @ best).sum() / 500
        assert sum(added[:gone]) == pytest.approx(left, rel=1e-5)
    assert sum(added) == pytest.approx(np.square(rows @ weight.T).sum() / 500, rel=1e-5)


def test_statistics_against_all_positions(x):
    graph = networks.build(networks.plain)
    found = collect(graph, x[:64], seed=0)
    first = next(iter(found.values()))
    patches = torch.nn.functional.unfold(x[:64], 3, padding=1).movedim(1, -1).flatten(0, 1)
    torch.testing.assert_close(
        first.covariance[0].float(), torch.cov(patches.T, correction=0), rtol=0.1, atol=0.05
    )
    assert all((s.fisher >= 0).all() and s.fisher.sum() > 0 for s in found.values())


def test_values_that_overflow_are_named(x):
    graph = networks.build(networks.plain)
    with pytest.raises(DataError, match=r"^layer '\S+' gives values that are NaN or infinite"):
        collect(graph, x * 1e38, 0)


def test_unknown_criterion():
    graph = networks.build(networks.plain)
    with pytest.raises(UsageError, match="tailor"):
        rank_channels(graph, couple(graph), torch.zeros(1, 3, 8, 8), "tailor")
