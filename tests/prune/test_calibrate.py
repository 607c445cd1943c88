import numpy as np
import pytest
import torch

from hwprune.graph.coupling import couple
from hwprune.graph.slim import slim
from hwprune.network.run import outputs
from hwprune.network.twin import to_module
from hwprune.prune.calibrate import calibrate, divergence
from hwprune.prune.criteria import rank_channels
from hwprune.prune.reconstruct import Reference
from hwprune.testing import networks


def test_half_the_channels_cost_what_was_measured():
    graph = networks.build(networks.residual)
    coupling = couple(graph)
    x = torch.randn(96, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    reference = Reference(graph, coupling, x)
    before = rank_channels(graph, coupling, x, "magnitude")
    after = calibrate(graph, before, reference, x)
    name, ranking = next(iter(after.items()))
    cut = len(ranking.order) // 2
    keep = {name: np.sort(ranking.order[cut:])}
    slimmed = slim(graph, coupling, keep)
    reference.reconstruct(slimmed, keep)
    pair = (outputs(to_module(graph), x), outputs(to_module(slimmed), x))
    assert ranking.error[cut] == pytest.approx(divergence(*pair))
    assert np.array_equal(ranking.order, before[name].order)


def test_divergence_of_logits_and_probabilities_agree():
    p, q = torch.randn(8, 5), torch.randn(8, 5)
    assert divergence([p], [p]) == 0
    assert divergence([p], [q]) == pytest.approx(
        divergence([p.softmax(1)], [q.softmax(1)]), rel=1e-4
    )
    assert divergence([p, q], [q, p]) > 0
