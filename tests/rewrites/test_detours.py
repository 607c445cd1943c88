import pytest

from hwprune.graph.read import canonical
from hwprune.rewrites.detours import drop_detours
from hwprune.rewrites.table import alike
from hwprune.testing.networks import Builder
from hwprune.verify.equality import difference


def normalised(flat: list[int], back: list[int]):
    """A softmax over three classes at every pixel, reshaped in front and behind."""
    b = Builder()
    y = b.add("Transpose", [b.conv("x", 3)], (8, 8, 3), perm=[0, 2, 3, 1])
    y = b.add("Reshape", [y, b.constant(flat)], b.sizes[y])
    y = b.add("Softmax", [y], b.sizes[y], axis=-1)
    y = b.add("Reshape", [y, b.constant(back)], b.sizes[y])
    y = b.add("Flatten", [b.add("Relu", [y], b.sizes[y])], (192, 1, 1))
    return canonical(b.model(y, classes=192))


def test_there_and_back_is_left_out(images) -> None:
    graph = normalised([64, 3], [1, 8, 8, 3])
    after = drop_detours(graph)
    assert [node.op for node in after.nodes] == [
        *("Conv", "Transpose", "Softmax"),
        *("Relu", "Flatten"),
    ]
    assert difference(graph, after, (images.numpy(),)) == 0
    assert alike(after, drop_detours(after))


@pytest.mark.parametrize(("flat", "back"), [([64, 3], [1, 64, 3]), ([8, 24], [1, 8, 8, 3])])
def test_another_shape_or_another_axis_stays(flat, back) -> None:
    graph = normalised(flat, back)
    assert alike(graph, drop_detours(graph))
