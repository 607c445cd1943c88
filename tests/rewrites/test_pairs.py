import numpy as np

from hwprune.graph.read import canonical
from hwprune.rewrites.pairs import softmax_pairs
from hwprune.rewrites.table import alike
from hwprune.testing.networks import Builder
from hwprune.verify.equality import ROUNDING, difference


def softmax(classes: int):
    """Softmax over `classes` at every pixel."""
    b = Builder()
    y = b.conv("x", classes)
    y = b.add("Transpose", [y], (8, 8, classes), perm=[0, 2, 3, 1])
    y = b.add("Softmax", [y], b.sizes[y], axis=3)
    return canonical(b.model(b.add("Flatten", [y], (64 * classes, 1, 1)), 64 * classes))


def test_a_softmax_of_two_is_a_sigmoid(images) -> None:
    graph = softmax(2)
    after = softmax_pairs(graph)
    ops = [node.op for node in after.nodes]
    assert "Sigmoid" in ops
    assert "Softmax" not in ops
    assert 0 < difference(graph, after, (images.numpy(),)) <= ROUNDING
    loud = 300 * images.numpy()
    assert difference(graph, after, (loud.astype(np.float32),)) <= ROUNDING


def test_more_classes_stay() -> None:
    graph = softmax(3)
    assert alike(graph, softmax_pairs(graph))
