"""Einsum of two tensors computes the same as Transpose, Reshape and MatMul, and is seen through."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from hwprune.frontend.module import graph_from_module
from hwprune.graph.coupling import couple
from hwprune.graph.einsum import parse
from hwprune.graph.read import canonical
from hwprune.testing.oracles import disagreement, parity, random_inputs, random_keep, run_graph

SIZES = {"a": 2, "b": 3, "c": 4, "d": 5, "e": 6}


def einsum(equation, first, second, constant=False):
    """x, y -> z; or x -> z with a constant second operand."""
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, first)]
    weights = []
    if constant:
        values = np.random.default_rng(0).standard_normal(second).astype(np.float32)
        weights = [numpy_helper.from_array(values, "y")]
    else:
        inputs.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, second))
    node = helper.make_node("Einsum", ["x", "y"], ["z"], "einsum", equation=equation)
    rank = np.einsum(equation, np.zeros(first), np.zeros(second)).ndim
    z = helper.make_tensor_value_info("z", TensorProto.FLOAT, [f"d{i}" for i in range(rank)])
    graph = helper.make_graph([node], "g", inputs, [z], weights)
    return canonical(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))


EQUATIONS = [
    ("bhid,bhjd->bhij", (2, 3, 4, 5), (2, 3, 6, 5)),
    ("bhij,bhjd->bhid", (2, 3, 4, 5), (2, 3, 5, 6)),
    ("bihd,bjhd->bhij", (2, 4, 3, 5), (2, 6, 3, 5)),
    ("nchw,oc->nohw", (2, 3, 4, 5), (6, 3)),
    ("...d,od->...o", (2, 3, 4), (6, 4)),
    ("b...d,b...d->b...", (2, 3, 4), (2, 3, 4)),
    ("ij,jk", (2, 3), (3, 4)),
    ("ijk,kji->", (2, 3, 4), (4, 3, 2)),
    ("i,ij->j", (3,), (3, 4)),
]


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize(("equation", "first", "second"), EQUATIONS)
def test_products_become_matmul(equation, first, second, constant):
    graph = einsum(equation, first, second, constant)
    found = Counter(n.op for n in graph.nodes)
    assert found["MatMul"] == 1
    assert found["Einsum"] == 0
    feeds = random_inputs(graph, 0)
    y = feeds.get("y", np.random.default_rng(0).standard_normal(second).astype(np.float32))
    np.testing.assert_allclose(
        run_graph(graph)[0], np.einsum(equation, feeds["x"], y), rtol=1e-4, atol=1e-5
    )


def test_attention_moves_only_what_it_must():
    found = [Counter(n.op for n in einsum(*e).nodes) for e in EQUATIONS[:3]]
    assert [f["Transpose"] for f in found] == [1, 0, 2]
    layer = einsum("bsd,de->bse", (2, 3, 4), (4, 5), constant=True)
    tables = einsum("bnhwc,hkc->bnhwk", (1, 2, 3, 4, 5), (3, 6, 5), constant=True)
    assert [[n.op for n in graph.nodes] for graph in (layer, tables)] == [["MatMul"], ["MatMul"]]


@given(st.data())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_any_equation_computes_the_same(data):
    """Products are replaced, all others left; the results agree with numpy either way."""
    letters = st.lists(st.sampled_from(sorted(SIZES)), min_size=1, max_size=4, unique=True)
    first, second = data.draw(letters), data.draw(letters)
    out = data.draw(st.permutations(sorted({*first, *second})))
    out = out[: data.draw(st.integers(0, len(out)))]
    equation = f"{''.join(first)},{''.join(second)}->{''.join(out)}"
    assume(len(out) < 5)
    graph = einsum(equation, [SIZES[x] for x in first], [SIZES[x] for x in second])
    feeds = random_inputs(graph, 0)
    wanted = np.einsum(equation, feeds["x"], feeds["y"])
    np.testing.assert_allclose(run_graph(graph)[0], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("equation", ["ij,jk,kl->il", "ii,ij->j", "ij,jk->ikk"])
def test_other_equations_are_left(equation):
    parsed = parse(equation, [2, 2])
    assert parsed is None or len(set(parsed[0])) < 2 or len(set(parsed[2])) < len(parsed[2])


class Attention(nn.Module):
    """Heads by einsum, as many write it."""

    def __init__(self, width=16, heads=4):
        super().__init__()
        self.heads, self.qkv = heads, nn.Linear(width, 3 * width)
        self.first, self.last = nn.Linear(8, width), nn.Linear(width, 5)

    def forward(self, x):
        x = self.first(x)
        q, k, v = (p.unflatten(-1, (self.heads, -1)) for p in self.qkv(x).chunk(3, -1))
        weights = torch.einsum("bihd,bjhd->bhij", q, k).softmax(-1)
        return self.last(torch.einsum("bhij,bjhd->bihd", weights, v).flatten(2))


def test_heads_and_their_dimensions_are_seen_through_einsum():
    torch.manual_seed(0)
    graph = graph_from_module(Attention().eval(), (torch.zeros(1, 7, 8),))
    coupling = couple(graph)
    assert sorted(g.width for g in coupling.prunable) == [4, 4, 4, 16]
    for seed in range(3):
        assert disagreement(graph, coupling, random_keep(coupling, seed)) < 1e-4
    assert parity(graph) < 1e-4
