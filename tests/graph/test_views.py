"""Gathers that view: strided orders become Reshape and Transpose, everything else stays."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from hwprune.frontend.module import graph_from_module
from hwprune.graph.coupling import couple
from hwprune.graph.read import canonical
from hwprune.graph.views import stride_order
from hwprune.testing.oracles import disagreement, parity, random_keep, run_graph


def gather(indices):
    """x, a vector, read in this order."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [indices.size])
    y = helper.make_tensor_value_info(
        "y", TensorProto.FLOAT, [f"d{i}" for i in range(indices.ndim)]
    )
    nodes = [
        helper.make_node("Relu", ["x"], ["v"], "relu"),
        helper.make_node("Gather", ["v", "i"], ["g"], "gather", axis=0),
        helper.make_node("Neg", ["g"], ["y"], "neg"),
    ]
    constant = numpy_helper.from_array(indices.astype(np.int64), "i")
    graph = helper.make_graph(nodes, "g", [x], [y], [constant])
    return canonical(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_strided_orders_are_found_and_replaced(shape, random):
    perm = random.sample(range(len(shape)), len(shape))
    indices = np.arange(np.prod(shape)).reshape(shape).transpose(perm)
    graph = gather(indices)
    assert "Gather" not in {n.op for n in graph.nodes}
    values = np.maximum(np.random.default_rng(0).standard_normal(indices.size), 0)
    np.testing.assert_array_equal(run_graph(graph)[0], -values.astype(np.float32)[indices])


@pytest.mark.parametrize(
    "indices",
    [[0, 1, 2, 2], [3, 2, 1, 0], [1, 0, 2, 3], [[0, 1], [1, 2]], [0, 1, 2, -1]],
    ids=["twice", "backwards", "swapped", "overlapping", "negative"],
)
def test_other_orders_stay(indices):
    array = np.array(indices)
    assert stride_order(array, array.size) is None
    assert "Gather" in {n.op for n in gather(array).nodes}


def test_picking_rows_by_coordinates_is_a_gather():
    indices = np.array([[-1], [0], [-1]])
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 3])
    node = helper.make_node("GatherND", ["x", "i"], ["y"], "pick")
    graph = helper.make_graph([node], "g", [x], [y], [numpy_helper.from_array(indices, "i")])
    found = canonical(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
    assert [n.op for n in found.nodes] == ["Gather"]
    values = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    np.testing.assert_array_equal(run_graph(found)[0], values[[3, 0, 3]])


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_a_transpose_that_moves_nothing_goes(rank):
    sizes = [2, 3][:rank]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [*sizes, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, sizes)
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["a"], axes=[-1], keepdims=0),
        helper.make_node("Transpose", ["a"], ["b"]),
        helper.make_node("Neg", ["b"], ["y"]),
    ]
    nodes[1].attribute.append(helper.make_attribute("perm", list(range(rank)), attr_type=7))
    graph = helper.make_graph(nodes, "g", [x], [y])
    found = canonical(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
    assert [n.op for n in found.nodes] == ["ReduceMax", "Neg"]


class ChannelsLastPool(nn.Module):
    """Global pooling behind channels-last layers, which torch exports with `as_strided`."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Conv2d(3, 8, 3), nn.LayerNorm(8), nn.Linear(8, 5)

    def forward(self, x):
        x = self.norm(self.first(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.last(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


def test_channels_are_seen_through_a_channels_last_pool():
    graph = graph_from_module(ChannelsLastPool().eval(), (torch.zeros(1, 3, 8, 8),))
    assert "Gather" not in {n.op for n in graph.nodes}
    coupling = couple(graph)
    assert [g.width for g in coupling.prunable] == [8]
    assert disagreement(graph, coupling, random_keep(coupling, 0)) < 1e-4
    assert parity(graph) < 1e-4
