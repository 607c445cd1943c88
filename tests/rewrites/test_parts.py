import numpy as np
import pytest

from hwprune.rewrites.parts import read_parts
from hwprune.rewrites.table import alike
from hwprune.testing.networks import Builder, build
from hwprune.verify.equality import difference


def joined(start: int, end: int, axis: int = 1):
    """A block: 4 and 6 channels joined, then a Slice, read together with the whole."""

    def block(b: Builder, x: str) -> str:
        _, h, w = b.sizes[x]
        whole = b.add("Concat", [b.conv(x, 4), b.conv(x, 6)], (10, h, w), axis=1)
        cuts = [b.constant([v]) for v in (start, end, axis)]
        sizes = (end - start, h, w) if axis == 1 else (10, end - start, w)
        part = b.add("Slice", [whole, *cuts], sizes)
        return b.conv(part, 8)

    return block


@pytest.mark.parametrize(("start", "end"), [(0, 4), (4, 10)])
def test_a_slice_that_takes_a_part_is_left_out(start, end, check, images) -> None:
    graph = build(joined(start, end))
    after = read_parts(graph)
    assert not {"Slice", "Concat"} & {node.op for node in after.nodes}
    assert difference(graph, after, (images.numpy(),)) == 0


@pytest.mark.parametrize(("start", "end", "axis"), [(0, 5, 1), (4, 9, 1), (0, 4, 2)])
def test_any_other_slice_stays(start, end, axis) -> None:
    graph = build(joined(start, end, axis))
    assert alike(graph, read_parts(graph))


def test_what_leaves_the_network_stays(transformer) -> None:
    graph = build(joined(0, 4))
    cut = next(node for node in graph.nodes if node.op == "Slice")
    cut.outputs[0].dtype = np.dtype(np.float32)
    graph.outputs.append(cut.outputs[0])
    assert alike(graph, read_parts(graph))
