from collections import Counter

import onnx_graphsurgeon as gs
import pytest
import torch

from hwprune.graph.cost import node_macs
from hwprune.network.run import outputs
from hwprune.network.twin import to_module
from hwprune.rewrites.neighbours import join_neighbours
from hwprune.rewrites.table import alike
from hwprune.testing.networks import Builder, build, residual, separable
from hwprune.verify.equality import ROUNDING, difference


def bottlenecks(b: Builder, x: str) -> str:
    """Wide, then narrow with nothing between; a narrow one that a pointwise one widens; a row."""
    y = b.relu(b.conv(b.conv(x, 40), 5, kernel=1))
    y = b.relu(b.conv(b.conv(b.conv(y, 20, stride=2), 12, kernel=1), 6, kernel=1))
    return b.relu(b.conv(b.conv(y, 2), 24, kernel=1))


def read_twice(b: Builder, x: str) -> str:
    y = b.conv(x, 40)
    z = b.conv(y, 5, kernel=1)
    return b.relu(b.conv(b.add("Concat", [y, z], (45, *b.sizes[y][1:]), axis=1), 8))


def framed(b: Builder, x: str) -> str:
    """The second has an edge of its own, or taps, or groups."""
    y = b.conv(b.conv(x, 40), 5, kernel=3)
    y = b.conv(b.relu(y), 40)
    z = b.add("Conv", [y, b.weight(5, 40, 1, 1)], (5, 10, 10), pads=[1] * 4)
    return b.relu(b.conv(b.conv(z, 20), 4, kernel=1, groups=2))


def convolutions(graph: gs.Graph) -> int:
    return Counter(node.op for node in graph.nodes)["Conv"]


def macs(graph: gs.Graph) -> int:
    return sum(node_macs(node) for node in graph.nodes)


def test_what_is_less_work_together_is_one_convolution(images) -> None:
    graph = build(bottlenecks)
    after = join_neighbours(graph)
    assert convolutions(graph) - convolutions(after) == 3  # the last two are more work as one
    assert macs(after) < macs(graph)
    assert alike(after, join_neighbours(after))
    assert difference(graph, after, (images.numpy(),)) <= ROUNDING
    (one,), (other,) = (outputs(to_module(g), images) for g in (graph, after))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("block", [read_twice, framed, residual, separable])
def test_others_stay_two(block) -> None:
    graph = build(block)
    assert alike(graph, join_neighbours(graph))
