from hwprune.graph.read import canonical
from hwprune.rewrites.table import alike
from hwprune.rewrites.transposes import join_transposes
from hwprune.testing.networks import Builder, build, converted
from hwprune.verify.equality import difference


def turned(*orders: list[int]):
    """A convolution, then transposes in a row."""
    b = Builder()
    y = b.conv("x", 8)
    for order in orders:
        y = b.add("Transpose", [y], (8, 8, 8), perm=order)
    return canonical(b.model(b.add("Flatten", [y], (512, 1, 1)), classes=512))


def test_two_become_one(images) -> None:
    graph = turned([0, 2, 3, 1], [0, 2, 1, 3])
    after = join_transposes(graph)
    (left,) = (node for node in after.nodes if node.op == "Transpose")
    assert left.attrs["perm"] == [0, 3, 2, 1]
    assert difference(graph, after, (images.numpy(),)) == 0


def test_those_that_cancel_go(images) -> None:
    graph = turned([0, 2, 3, 1], [0, 3, 1, 2])
    after = join_transposes(graph)
    assert [node.op for node in after.nodes] == ["Conv", "Flatten"]
    assert difference(graph, after, (images.numpy(),)) == 0


def test_transposes_with_a_layer_between_them_stay() -> None:
    graph = build(converted)
    assert alike(graph, join_transposes(graph))
