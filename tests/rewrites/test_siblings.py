from collections import Counter

import onnx_graphsurgeon as gs
import pytest

from hwprune.rewrites.siblings import join_siblings
from hwprune.rewrites.table import alike
from hwprune.testing.networks import Builder, attended, build, flat_head, residual, window


def inception(b: Builder, x: str) -> str:
    """Two of three convolutions have the same window."""
    parts = [b.relu(b.conv(x, width, kernel)) for width, kernel in ((4, 1), (6, 3), (5, 1))]
    return b.add("Concat", parts, (15, *b.sizes[x][1:]), axis=1)


def two_heads(b: Builder, x: str) -> str:
    y = b.add("Flatten", [x], (int(b.sizes[x][0]) * 64, 1, 1))
    count = b.sizes[y][0]
    parts = [
        b.relu(b.add("Gemm", [y, b.weight(width, count), b.vector(width)], (width, 1, 1), transB=1))
        for width in (4, 3)
    ]
    y = b.add("Concat", parts, (7, 1, 1), axis=1)
    return b.add("Gemm", [y, b.weight(5, 7), b.vector(5)], (5, 1, 1), transB=1)


def count(graph: gs.Graph) -> Counter[str]:
    return Counter(node.op for node in graph.nodes)


def test_convolutions_of_one_window_are_one(check) -> None:
    graph = build(inception)
    after = join_siblings(graph)
    assert count(graph)["Conv"] - count(after)["Conv"] == 1
    assert count(after)["Split"] == 1
    check(graph, after)
    assert alike(after, join_siblings(after))


@pytest.mark.parametrize(("block", "products"), [(attended, "MatMul"), (window, "MatMul")])
def test_queries_keys_and_values_are_one_product(block, products, check) -> None:
    graph = build(block)
    after = join_siblings(graph)
    joined = count(graph)[products] - count(after)[products]
    assert joined == 2 * count(after)["Split"] or joined == 0
    check(graph, after)


def test_products_with_their_biases_are_one(check) -> None:
    graph = build(residual, head=two_heads)
    after = join_siblings(graph)
    assert count(graph)["Gemm"] - count(after)["Gemm"] == 1
    check(graph, after)


def test_layers_that_follow_one_another_stay() -> None:
    graph = build(residual, head=flat_head)
    assert alike(graph, join_siblings(graph))
