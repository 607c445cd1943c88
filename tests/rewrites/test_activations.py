import numpy as np
import pytest

from hwprune.graph.read import canonical
from hwprune.rewrites.activations import lift_rectifiers
from hwprune.rewrites.table import alike
from hwprune.testing.networks import Builder, build, plain, residual
from hwprune.verify.equality import difference


def pooled(rectifier: str, pool: str = "MaxPool"):
    """A convolution, a pool and a transpose, then the rectifier."""
    b = Builder()
    y = b.conv("x", 8)
    y = b.add(pool, [y], (8, 4, 4), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    y = b.add("Transpose", [y], (4, 4, 8), perm=[0, 2, 3, 1])
    bounds = [b.constant(np.array(v, np.float32)) for v in (-0.5, 0.5)]
    y = b.add(rectifier, [y, *bounds] if rectifier == "Clip" else [y], b.sizes[y])
    return canonical(b.model(b.add("Flatten", [y], (128, 1, 1)), classes=128))


@pytest.mark.parametrize("rectifier", ["Relu", "Clip"])
def test_a_rectifier_moves_up_to_the_convolution(rectifier, images) -> None:
    graph = pooled(rectifier)
    after = lift_rectifiers(graph)
    ops = [node.op for node in after.nodes]
    assert ops == ["Conv", rectifier, "MaxPool", "Transpose", "Flatten"]
    assert difference(graph, after, (images.numpy(),)) == 0
    assert alike(after, lift_rectifiers(after))


def test_a_mean_is_no_maximum() -> None:
    graph = pooled("Relu", "AveragePool")
    assert alike(graph, lift_rectifiers(graph))


def test_what_is_in_place_stays() -> None:
    graph = build(plain, residual)
    assert alike(graph, lift_rectifiers(graph))
