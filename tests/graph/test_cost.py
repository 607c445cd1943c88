"""Multiply-accumulates against counts that were made another way."""

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from hwprune.graph.cost import input_axis, macs, node_macs, output_axis, params, weighted_nodes
from hwprune.graph.read import read_graph
from hwprune.testing import networks
from hwprune.testing.networks import Builder, build


def _node(op, inputs, output, **attributes):
    tensors = [
        gs.Constant(f"c{i}", np.zeros(shape, np.float32))
        if constant
        else gs.Variable(f"v{i}", np.float32, shape)
        for i, (shape, constant) in enumerate(inputs)
    ]
    return gs.Node(op, "n", attributes, tensors, [gs.Variable("y", np.float32, output)])


@pytest.mark.parametrize(
    ("node", "expected", "axes"),
    [
        (
            _node("Conv", [((2, 6, 5, 5), 0), ((8, 6, 3, 3), 1)], (2, 8, 5, 5)),
            2 * 8 * 25 * 6 * 9,
            (1, 0),
        ),
        (
            _node("Conv", [((1, 6, 5, 5), 0), ((6, 1, 3, 3), 1)], (1, 6, 5, 5), group=6),
            6 * 25 * 9,
            (1, 0),
        ),
        (
            _node("ConvTranspose", [((1, 6, 5, 5), 0), ((6, 4, 2, 2), 1)], (1, 8, 10, 10), group=2),
            6 * 25 * 4 * 4,
            (0, 1),
        ),
        (_node("Gemm", [((3, 7), 0), ((5, 7), 1)], (3, 5), transB=1), 3 * 5 * 7, (1, 0)),
        (_node("Gemm", [((3, 7), 0), ((7, 5), 1)], (3, 5)), 3 * 5 * 7, (0, 1)),
        (_node("MatMul", [((1, 4, 7), 0), ((7, 5), 1)], (1, 4, 5)), 4 * 5 * 7, (0, 1)),
        (_node("MatMul", [((5, 7), 1), ((1, 7, 4), 0)], (1, 5, 4)), 4 * 5 * 7, (1, 0)),
        (_node("MatMul", [((1, 2, 4, 7), 0), ((1, 2, 7, 4), 0)], (1, 2, 4, 4)), 2 * 16 * 7, None),
        (_node("Relu", [((1, 2), 0)], (1, 2)), 0, None),
    ],
)
def test_products_of_one_node(node, expected, axes):
    assert node_macs(node) == expected
    if axes is not None:
        assert (input_axis(node), output_axis(node)) == axes


def test_whole_graph():
    graph = build(stem=6)  # a 3x3 convolution on 8x8, and the head
    assert macs(graph) == 64 * 6 * 27 + 6 * 5
    assert params(graph) == 6 * 27 + 6 + 6 * 5 + 5
    assert [node.op for node in weighted_nodes(graph)] == ["Conv", "Gemm"]


def test_shared_weights_count_once():
    builder = Builder()
    weights = [builder.weight(3, 3, 1, 1), builder.vector(3)]
    x = builder.add("Conv", ["x", *weights], (3, 8, 8))
    x = builder.add("Conv", [x, *weights], (3, 8, 8))
    graph = networks.canonical(builder.model(networks.pooled_head(builder, x), 5))
    assert params(graph) == 9 + 3 + 15 + 5
    assert macs(graph) == 2 * 64 * 9 + 15


@pytest.mark.shared
def test_published_figure(shared_data):
    """MLPerf Tiny gives 12.5 M multiply-accumulates for its CIFAR-10 ResNet."""
    graph = read_graph(shared_data / "cifar10_resnet8.onnx")
    assert macs(graph) == pytest.approx(12.5e6, rel=1e-3)
