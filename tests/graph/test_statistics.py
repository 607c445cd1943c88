"""Norms and means over channels are taken over the channels that are left (decision 0009)."""

import numpy as np
import pytest
import torch
from torch import nn

from hwprune.frontend.module import graph_from_module
from hwprune.graph.cost import macs
from hwprune.graph.coupling import couple
from hwprune.graph.slim import slim
from hwprune.testing.oracles import disagreement, run_graph

pytestmark = pytest.mark.ort
WIDTH = 12


class RootMeanSquare(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * self.weight


class Encoder(nn.Module):
    """An embedding of tokens and positions, one residual MLP between norms, a head."""

    def __init__(self, norm):
        super().__init__()
        self.tokens = nn.Embedding(20, WIDTH)
        self.positions = nn.Parameter(torch.randn(1, 5, WIDTH))
        self.before, self.after = norm(), norm()
        self.up, self.down = nn.Linear(WIDTH, 16), nn.Linear(16, WIDTH)
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, ids):
        x = self.tokens(ids) + self.positions
        x = x + self.down(torch.relu(self.up(self.before(x))))
        return self.head(self.after(x).mean(1))


def encoder(norm):
    torch.manual_seed(0)
    module = Encoder(norm)
    for parameter in module.parameters():
        nn.init.normal_(parameter, 0.2, 0.5)
    return graph_from_module(module, (torch.randint(0, 20, (1, 5)),))


@pytest.mark.parametrize("norm", [lambda: nn.LayerNorm(WIDTH), RootMeanSquare], ids=["LN", "RMS"])
def test_the_embedding_width_can_go(norm):
    graph = encoder(norm)
    coupling = couple(graph)
    assert sorted(g.width for g in coupling.prunable) == [WIDTH, 16]
    wide = next(g for g in coupling.prunable if g.width == WIDTH)
    for kept in ([0], [3, 4, 11], range(0, WIDTH, 2)):
        keep = {wide.name: np.array(kept)}
        assert disagreement(graph, coupling, keep) < 1e-5
        small = slim(graph, coupling, keep)
        assert macs(small) == macs(graph) * len(kept) // WIDTH
        shapes = {
            name: t.shape for name, t in small.tensors().items() if name in wide_members(wide)
        }
        assert all(len(kept) in shape for shape in shapes.values())


def wide_members(group):
    return {member.tensor for member in group.members}


def test_the_norm_sees_what_is_left():
    """By hand: LayerNorm of two channels is the sign of their difference."""

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.wide, self.norm = nn.Linear(2, 4, bias=False), nn.LayerNorm(4, eps=0)
            self.head = nn.Linear(4, 1, bias=False)

        def forward(self, x):
            return self.head(self.norm(self.wide(x)))

    module = Two()
    module.wide.weight.data = torch.tensor([[1.0, 0], [0, 1], [5, 5], [7, -3]])
    module.head.weight.data = torch.tensor([[1.0, 10, 100, 1000]])
    graph = graph_from_module(module, (torch.zeros(1, 2),))
    coupling = couple(graph)
    (group,) = coupling.prunable
    (answer,) = run_graph(slim(graph, coupling, {group.name: np.array([0, 1])}), seed=0)
    x = np.random.default_rng(0).standard_normal((1, 2))
    larger = np.sign(x[0, 0] - x[0, 1])
    np.testing.assert_allclose(answer, [[larger * (1 - 10)]], rtol=1e-4)


def test_an_index_of_a_channel_freezes_it():
    class Largest(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(6, 4)

        def forward(self, x):
            return self.layer(x).argmax(-1)

    coupling = couple(graph_from_module(Largest(), (torch.zeros(1, 6),)))
    assert not coupling.prunable
    assert "counts the channels" in coupling.groups[0].frozen
