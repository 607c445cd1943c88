import numpy as np
import onnx_graphsurgeon as gs
import pytest

from hwprune.graph.coupling import couple
from hwprune.graph.slim import slim
from hwprune.rewrites.paddings import padded_to
from hwprune.rewrites.table import alike
from hwprune.testing.networks import Builder, build, pooled_head
from hwprune.verify.equality import ROUNDING, difference


def mobile(b: Builder, x: str) -> str:
    """12 channels made, filtered one by one, added to themselves and read."""
    y = b.relu(b.conv(x, 12))
    z = b.relu(b.conv(y, 12, groups=12))
    z = b.add("Add", [b.conv(z, 12, kernel=1), y], b.sizes[y])
    return b.relu(b.conv(b.relu(z), 20))


def joined(b: Builder, x: str) -> str:
    """12 channels that stand beside others."""
    parts = [b.relu(b.conv(x, width)) for width in (12, 4)]
    y = b.add("Concat", parts, (16, *b.sizes[x][1:]), axis=1)
    return b.relu(b.conv(y, 20))


def grouped(b: Builder, x: str) -> str:
    """12 channels in two groups."""
    y = b.relu(b.conv(b.relu(b.conv(x, 12)), 12, groups=2))
    return b.relu(b.conv(y, 20))


def widths(graph: gs.Graph) -> list[int]:
    return [node.inputs[1].shape[0] for node in graph.nodes if node.op == "Conv"]


def test_small_counts_are_filled_up(check) -> None:
    graph = build(mobile, head=pooled_head)
    after = padded_to(16)(graph)
    assert [16 if w == 12 else w for w in widths(graph)] == widths(after)
    assert widths(graph).count(12) == 3
    assert [n.attrs["group"] for n in after.nodes if n.attrs.get("group", 1) > 1] == [16]
    assert not alike(graph, after)
    assert alike(after, padded_to(16)(after))
    check(graph, after)


def test_new_channels_can_go_again(images) -> None:
    graph = build(mobile, head=pooled_head)
    after = padded_to(16)(graph)
    coupling = couple(after)
    (group,) = (g for g in coupling.prunable if g.width == 16)
    narrow = slim(after, coupling, {group.name: range(12)})
    assert widths(narrow) == widths(graph)
    assert difference(graph, narrow, (images.numpy(),)) <= ROUNDING
    weights = [n.inputs[1].values for n in after.nodes if n.op == "Conv"]
    assert not any(np.all(w == 0, axis=(1, 2, 3)).any() for w in weights)  # none is silent


@pytest.mark.parametrize(("block", "count"), [(joined, 16), (grouped, 16), (mobile, 64)])
def test_others_stay_as_they_are(block, count) -> None:
    """Parts of a concatenation, groups, counts beyond and counts of less than half."""
    graph = build(block, head=pooled_head)
    assert alike(graph, padded_to(count)(graph))
