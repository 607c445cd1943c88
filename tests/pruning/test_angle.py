import math

import numpy as np
import torch
from torch import nn

from hwprune.graph.coupling import couple
from hwprune.pruning.angle import angles_of
from hwprune.pruning.criteria import rank_channels
from hwprune.testing import networks


def test_a_kernel_on_the_grid_turns_by_nothing_and_an_empty_one_neither():
    layer = nn.Conv2d(3, 2, 3, bias=False)
    with torch.no_grad():
        layer.weight[0] = torch.tensor([1.0, 0.0, -1.0]).repeat(3, 3).reshape(3, 3, 3)
        layer.weight[1] = torch.randn(3, 3, 3, generator=torch.Generator().manual_seed(0))
        layer.weight[1, 2] = 0
    angles = angles_of(layer)
    assert angles.shape == (2, 3)
    np.testing.assert_allclose(angles[0], 0.0, atol=1e-3)
    assert angles[1, 2] == 0
    assert 0.1 < angles[1, 0] < math.pi / 2


def test_the_channel_whose_readers_turn_most_goes_first_and_the_least_last():
    graph = networks.build(networks.plain, networks.residual)
    coupling = couple(graph)
    group = next(g for g in coupling.prunable if len(g.producers) == len(g.consumers) == 1)
    reader = next(n for n in graph.nodes if n.name == group.consumers[0])
    weight = np.array(reader.inputs[1].values)
    largest = np.abs(weight).max()
    weight[:, 4] = np.sign(weight[:, 4]) * largest  # on the grid of 2 bits
    weight[:, 1] = 1e-3 * weight[:, 1]  # rounded to nothing: a right angle
    reader.inputs[1].values = weight
    order = rank_channels(graph, coupling, torch.zeros(1), "angle")[group.name].order
    assert order[0] == 1
    assert order[-1] == 4
