import numpy as np
import onnx_graphsurgeon as gs
import pytest

from hwprune.graph.read import canonical
from hwprune.rewrites.heads import split_heads
from hwprune.rewrites.scales import fold_scales
from hwprune.rewrites.table import alike
from hwprune.testing.networks import Builder, build
from hwprune.verify.equality import ROUNDING, difference


def constant(b: Builder, value: float) -> str:
    return b.constant(np.array(value, np.float32))


def factors(graph: gs.Graph) -> int:
    return sum(node.op in ("Mul", "Div") for node in graph.nodes)


def scaled_conv(b: Builder, x: str) -> str:
    y = b.conv(x, 5)
    return b.relu(b.add("Mul", [constant(b, 0.3), y], b.sizes[y]))


def divided_conv(b: Builder, x: str) -> str:
    y = b.conv(x, 5)
    return b.relu(b.add("Div", [y, constant(b, 3.0)], b.sizes[y]))


@pytest.mark.parametrize("block", [scaled_conv, divided_conv])
def test_a_convolution_takes_the_factor_behind_it(block, images) -> None:
    graph = build(block)
    after = fold_scales(graph)
    assert (factors(graph), factors(after)) == (1, 0)
    assert difference(graph, after, (images.numpy(),)) <= ROUNDING
    assert alike(after, fold_scales(after))


def attention(heads_apart: bool) -> gs.Graph:
    """One product for queries, keys and values; the products of the first two are scaled."""
    b = Builder()
    tokens = b.add("Reshape", [b.conv("x", 6), b.constant([1, 6, 64])], (6, 64, 1))
    y = b.add("Transpose", [tokens], (64, 6, 1), perm=[0, 2, 1])
    size = b.sizes[y]
    y = b.add("Add", [b.add("MatMul", [y, b.weight(6, 18)], size), b.vector(18)], size)
    y = b.add("Reshape", [y, b.constant([1, 64, 3, 2, 3])], size)
    y = b.add("Transpose", [y], size, perm=[2, 0, 3, 1, 4])
    q, k, v = (b.add("Gather", [y, b.constant(np.array(i))], size, axis=0) for i in range(3))
    y = b.add("MatMul", [q, b.add("Transpose", [k], size, perm=[0, 1, 3, 2])], size)
    y = b.add("Mul", [y, constant(b, 0.25)], size)
    if not heads_apart:
        turned = b.add("Transpose", [q], size, perm=[0, 1, 3, 2])
        y = b.add("Add", [y, b.add("MatMul", [q, turned], size)], size)
    y = b.add("MatMul", [b.add("Softmax", [y], size, axis=-1), v], size)
    return split_heads(canonical(b.model(b.add("Flatten", [y], (384, 1, 1)), classes=384)))


def test_only_the_queries_of_a_common_product_are_scaled(images) -> None:
    graph = attention(heads_apart=True)
    after = fold_scales(graph)
    assert (factors(graph), factors(after)) == (1, 0)
    assert difference(graph, after, (images[:1].numpy(),)) <= ROUNDING
    before, changed = (
        next(n for n in g.nodes if n.op == "MatMul").inputs[1].values for g in (graph, after)
    )
    ratios = changed / before
    np.testing.assert_allclose(ratios[:, :6], 0.25, rtol=1e-6)
    np.testing.assert_allclose(ratios[:, 6:], 1.0)


def test_keys_take_it_where_queries_are_read_by_others(images) -> None:
    graph = attention(heads_apart=False)
    after = fold_scales(graph)
    assert factors(after) == 0
    assert difference(graph, after, (images[:1].numpy(),)) <= ROUNDING


def shared(b: Builder, x: str) -> str:
    """The unscaled values are read, too."""
    y = b.conv(x, 5)
    return b.relu(b.sum(y, b.add("Mul", [y, constant(b, 0.3)], b.sizes[y])))


def curved(b: Builder, x: str) -> str:
    y = b.relu(b.conv(x, 5))
    return b.add("Mul", [y, constant(b, 0.3)], b.sizes[y])


def vanishing(b: Builder, x: str) -> str:
    y = b.conv(x, 5)
    return b.relu(b.add("Mul", [y, constant(b, 0.0)], b.sizes[y]))


@pytest.mark.parametrize("block", [shared, curved, vanishing])
def test_others_stay(block) -> None:
    graph = build(block)
    assert alike(graph, fold_scales(graph))
