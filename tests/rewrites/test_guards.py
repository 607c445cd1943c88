import numpy as np
import onnx_graphsurgeon as gs

from hwprune.graph.read import canonical
from hwprune.rewrites.guards import drop_guards
from hwprune.rewrites.table import alike
from hwprune.testing.networks import Builder
from hwprune.verify.equality import difference


def guarded(mask: np.ndarray) -> gs.Graph:
    """Attention of pixels as PyTorch exports it: a mask is added, and NaN is replaced by 0."""
    b = Builder()
    tokens = b.add("Reshape", [b.conv("x", 6), b.constant([1, 6, 64])], (6, 64, 1))
    turned = b.add("Transpose", [tokens], (64, 6, 1), perm=[0, 2, 1])
    size = (64, 64, 1)
    y = b.add("Add", [b.add("MatMul", [turned, tokens], size), b.constant(mask)], size)
    y = b.add("Softmax", [y], size, axis=-1)
    zero = b.constant(np.zeros(1, np.float32))
    y = b.add("Where", [b.add("IsNaN", [y], size), zero, y], size)
    y = b.add("MatMul", [y, turned], (64, 6, 1))
    flat = b.add("Flatten", [y], (384, 1, 1))
    return canonical(b.model(flat, classes=384))


def ops(graph: gs.Graph) -> list[str]:
    return [node.op for node in graph.nodes]


def test_a_mask_of_zeros_and_the_guard_behind_it_go(images) -> None:
    graph = guarded(np.zeros((1, 64, 64), np.float32))
    after = drop_guards(graph)
    assert {"Add", "IsNaN", "Where"} <= set(ops(graph))
    assert not {"Add", "IsNaN", "Where"} & set(ops(after))
    assert difference(graph, after, (images[:1].numpy(),)) == 0
    assert alike(after, drop_guards(after))


def test_a_finite_mask_stays_and_its_guard_goes(images) -> None:
    mask = np.where(np.tri(64), 0, -1e9).astype(np.float32)[None]
    graph = guarded(mask)
    after = drop_guards(graph)
    assert "Add" in ops(after)
    assert "Where" not in ops(after)
    assert difference(graph, after, (images[:1].numpy(),)) == 0


def test_a_row_that_is_all_masked_keeps_its_guard(images) -> None:
    mask = np.zeros((1, 64, 64), np.float32)
    mask[0, 7] = -np.inf
    graph = guarded(mask)
    assert alike(graph, drop_guards(graph))


def test_zeros_that_may_be_a_bias_stay() -> None:
    b = Builder()
    y = b.add("Flatten", [b.conv("x", 4)], (256, 1, 1))
    y = b.add("MatMul", [y, b.weight(256, 64)], (64, 1, 1))
    y = b.add("Add", [y, b.constant(np.zeros(64, np.float32))], (64, 1, 1))
    graph = canonical(b.model(y, classes=64))
    assert alike(graph, drop_guards(graph))


def test_a_mask_that_comes_with_the_input_keeps_the_guard() -> None:
    b = Builder(shape=(1, 64, 64))
    size = (64, 64, 1)
    mask = b.add("Reshape", ["x", b.constant([1, 64, 64])], size)
    y = b.add("Softmax", [b.add("Add", [mask, b.vector(1, 64, 64)], size)], size, axis=-1)
    zero = b.constant(np.zeros(1, np.float32))
    y = b.add("Where", [b.add("IsNaN", [y], size), zero, y], size)
    graph = canonical(b.model(b.add("Flatten", [y], (4096, 1, 1)), classes=4096))
    assert alike(graph, drop_guards(graph))
