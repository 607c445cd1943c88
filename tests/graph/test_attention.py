"""Attention: whole heads can go, and the same dimensions within each head."""

import numpy as np
import pytest
import torch
from torch import nn

from hwprune.frontend.module import graph_from_module
from hwprune.graph.coupling import couple
from hwprune.graph.slim import slim
from hwprune.testing.oracles import disagreement

pytestmark = pytest.mark.ort
DIM = 12


def exported(module):
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, 0, 0.3)
    return graph_from_module(module, (torch.randn(1, 5, DIM),))


class Heads(nn.Module):
    """`heads` of `width`; `groups` key and value heads shared by equally many query heads."""

    def __init__(self, heads=4, width=6, groups=4, fused=False, rotary=False):
        super().__init__()
        self.heads, self.width, self.groups, self.rotary = heads, width, groups, rotary
        self.inner = nn.Linear(DIM, DIM)
        if fused:
            self.qkv = nn.Linear(DIM, 3 * heads * width)
        else:
            self.q = nn.Linear(DIM, heads * width)
            self.k, self.v = (nn.Linear(DIM, groups * width, bias=False) for _ in range(2))
        self.fused = fused
        self.out = nn.Linear(heads * width, DIM)

    def _split(self, x, count):
        return x.view(*x.shape[:2], count, self.width).transpose(1, 2)

    def _turned(self, x):
        if not self.rotary:
            return x
        angle = torch.arange(5.0)[:, None] / (1 + torch.arange(self.width // 2))
        angle = torch.cat([angle, angle], -1)
        half = self.width // 2
        rotated = torch.cat([-x[..., half:], x[..., :half]], -1)
        return x * angle.cos() + rotated * angle.sin()

    def forward(self, x):
        x = torch.relu(self.inner(x))
        if self.fused:
            qkv = self.qkv(x).view(*x.shape[:2], 3, self.heads, self.width).permute(2, 0, 3, 1, 4)
            q, k, v = qkv[0], qkv[1], qkv[2]
        else:
            q = self._turned(self._split(self.q(x), self.heads))
            k = self._turned(self._split(self.k(x), self.groups))
            v = self._split(self.v(x), self.groups)
            shape = (x.shape[0], self.groups, self.heads // self.groups, x.shape[1], self.width)
            k, v = (t[:, :, None].expand(shape).reshape(q.shape) for t in (k, v))
        scores = torch.softmax(q @ k.transpose(2, 3) / self.width**0.5, -1)
        joined = (scores @ v).transpose(1, 2).reshape(*x.shape[:2], -1)
        return self.out(joined)


CASES = {
    "plain": {},
    "one width for heads and dimensions": {"heads": 6, "groups": 6},
    "fused": {"fused": True},
    "grouped queries": {"groups": 2},
    "multi-query": {"groups": 1},
    "rotary": {"rotary": True, "groups": 2},
}


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_heads_and_their_dimensions_can_go(options):
    graph = exported(Heads(**options))
    coupling = couple(graph)
    heads, groups = options.get("heads", 4), options.get("groups", 4)
    kept_together = groups if groups > 1 else 0
    dimensions = 3 if options.get("rotary") else 6  # the two halves turn together
    expected = [DIM, 6, dimensions] + ([kept_together] if kept_together else [])
    if options.get("fused"):  # one reshape of all three: their dimensions are the same ones
        expected = [DIM, 6, 4]
    if groups == 1:  # query heads are alike to the one key head: none can go alone
        expected = [DIM, 6, 6]
    assert sorted(g.width for g in coupling.prunable) == sorted(expected)
    rng = np.random.default_rng(0)
    for share in (0.9, 0.5, 0.2):
        keep = {
            g.name: np.sort(rng.permutation(g.width)[: max(1, int(share * g.width))])
            for g in coupling.prunable
        }
        assert disagreement(graph, coupling, keep) <= 1e-5
    small = slim(graph, coupling, keep)
    assert heads * 6 > small.nodes[-1].inputs[0].shape[-1]


def test_a_head_takes_its_share_of_every_projection():
    graph = exported(Heads())
    coupling = couple(graph)
    group = next(g for g in coupling.prunable if g.width == 4)
    small = slim(graph, coupling, {group.name: [0, 2, 3]})
    before = {t.name: t.shape for t in graph.tensors().values() if hasattr(t, "values")}
    after = {t.name: t.shape for t in small.tensors().values() if hasattr(t, "values")}
    narrowed = [n for n in before if list(before[n]) != list(after.get(n, before[n]))]
    assert sum(6 in np.subtract(before[n], after[n]) for n in narrowed if len(before[n])) >= 4
