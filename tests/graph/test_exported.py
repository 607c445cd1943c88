"""Modules as torch exports them: everything in them can be pruned, exactly."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hwprune.graph.coupling import couple
from hwprune.graph.read import canonical
from hwprune.testing.oracles import disagreement, parity, random_keep

pytestmark = pytest.mark.ort


class LinearAttention(nn.Module):
    """ReLU attention whose sum of weights rides along as a channel of ones (EfficientViT)."""

    def __init__(self, width=8):
        super().__init__()
        self.qkv, self.out = nn.Conv2d(3, 3 * width, 1), nn.Conv2d(width, 4, 1)

    def forward(self, x):
        q, k, v = self.qkv(x).flatten(2).transpose(1, 2).chunk(3, -1)
        v = F.pad(v, (0, 1), value=1.0)
        out = F.relu(q) @ (F.relu(k).transpose(1, 2) @ v)
        out = out[..., :-1] / (out[..., -1:] + 1e-5)
        return self.out(out.transpose(1, 2).unflatten(2, x.shape[2:]))


class SpatialTransformer(nn.Module):
    """Features sampled at fixed places between two layers."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        turn = torch.tensor([[[0.8, -0.6, 0.1], [0.6, 0.8, 0.0]]]).expand(x.shape[0], 2, 3)
        grid = F.affine_grid(turn, [x.shape[0], 8, 6, 6], align_corners=False)
        return self.last(F.grid_sample(F.relu(self.first(x)), grid, align_corners=False))


class Encoder(nn.Module):
    """A transformer layer as torch has it; from opset 23 on, its attention is one operator."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 16, 4, 4)
        self.layer = nn.TransformerEncoderLayer(16, 4, 24, batch_first=True, norm_first=True)
        self.last = nn.Linear(16, 5)

    def forward(self, x):
        return self.last(self.layer(self.first(x).flatten(2).transpose(1, 2)).mean(1))


class GroupedQueries(nn.Module):
    """Grouped queries with a causal mask."""

    def __init__(self):
        super().__init__()
        self.q, self.kv, self.out = nn.Linear(16, 32), nn.Linear(16, 32), nn.Linear(32, 5)
        self.first = nn.Conv2d(3, 16, 4, 4)

    def forward(self, x):
        x = self.first(x).flatten(2).transpose(1, 2)
        q = self.q(x).unflatten(-1, (4, 8)).transpose(1, 2)
        k, v = (p.unflatten(-1, (2, 8)).transpose(1, 2) for p in self.kv(x).chunk(2, -1))
        x = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return self.out(x.transpose(1, 2).flatten(2)).mean(1)


class PositionTables(nn.Module):
    """Queries against a constant table for each row, and a matrix for each head."""

    def __init__(self):
        super().__init__()
        self.q, self.last = nn.Conv2d(3, 16, 1), nn.Linear(12, 5)
        self.rows = nn.Parameter(torch.randn(12, 12, 8))  # row x place x dimension
        self.mix = nn.Parameter(torch.randn(2, 12, 6))  # head x place x out

    def forward(self, x):
        q = self.q(x).unflatten(1, (2, 8)).permute(0, 1, 3, 4, 2)
        scores = torch.einsum("bnhwc,hkc->bnhwk", q, self.rows).mean(3)
        return self.last((F.relu(scores) @ self.mix).mean(2).flatten(1))


class UnitLength(nn.Module):
    """Features of length 1, which torch writes with an Expand, and a mask of minus infinity."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        x = F.normalize(self.first(x), dim=1)
        x = F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=-torch.inf), 3, 2)
        scores = x.flatten(2).transpose(1, 2) @ x.flatten(2)
        later = torch.ones(scores.shape[1:]).triu(1).bool()
        weights = scores.masked_fill(later, -torch.inf).softmax(-1)
        return self.last((x.flatten(2) @ weights.transpose(1, 2)).unflatten(2, x.shape[2:]))


class OneKeyForAll(nn.Module):
    """Queries, one key and one value in a single projection, taken out by their number (Falcon)."""

    def __init__(self):
        super().__init__()
        self.first, self.qkv, self.last = (
            nn.Conv2d(3, 16, 4, 4),
            nn.Linear(16, 48),
            nn.Linear(32, 5),
        )

    def forward(self, x):
        x = self.first(x).flatten(2).transpose(1, 2)
        heads = self.qkv(x).unflatten(-1, (6, 8))
        q, k, v = heads[..., :-2, :], heads[..., [-2], :], heads[..., [-1], :]
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        x = (q @ k.transpose(2, 3)).softmax(-1) @ v
        return self.last(x.transpose(1, 2).flatten(2)).mean(1)


class ObjectQueries(nn.Module):
    """Learned queries look at an image (DETR): what becomes of them alone is a constant."""

    def __init__(self):
        super().__init__()
        self.queries, self.first = nn.Parameter(torch.randn(6, 16)), nn.Conv2d(3, 16, 4, 4)
        self.norm, self.last = nn.LayerNorm(16), nn.Linear(16, 5)
        self.look = nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, x):
        x = self.first(x).flatten(2).transpose(1, 2)
        queries = self.norm(self.queries).expand(x.shape[0], -1, -1)
        return self.last((queries + self.look(queries, x, x, need_weights=False)[0]).flatten(0, 1))


class Patches(nn.Module):
    """Patches that overlap, summed to an image."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4 * 9, 3, 2, 1), nn.Conv2d(4, 5, 1)

    def forward(self, x):
        return self.last(F.fold(self.first(x).flatten(2), (12, 12), 3, 1, 1, 2))


MODULES = [LinearAttention, SpatialTransformer, Encoder, GroupedQueries, PositionTables, UnitLength]
MODULES += [OneKeyForAll, ObjectQueries, Patches]


@pytest.mark.parametrize("opset", [18, 23])
@pytest.mark.parametrize("make", MODULES)
def test_all_but_the_outputs_can_be_pruned(make, opset):
    torch.manual_seed(0)
    module, example = make().eval(), (torch.randn(1, 3, 12, 12),)
    program = torch.onnx.export(module, example, dynamo=True, opset_version=opset, verbose=False)
    graph = canonical(program.model_proto)
    coupling = couple(graph)
    frozen = [g.frozen for g in coupling.groups if g.frozen]
    assert all(reason.startswith("graph output") for reason in frozen), frozen
    for seed in range(3):
        assert disagreement(graph, coupling, random_keep(coupling, seed)) < 1e-4
    if make is not SpatialTransformer:  # torch has no GridSample of ONNX: onnxruntime runs it
        assert parity(graph) < 1e-4
