from collections import Counter

import numpy as np
import onnx_graphsurgeon as gs

from hwprune.rewrites.heads import split_heads
from hwprune.rewrites.table import alike
from hwprune.testing.networks import attended, build, window
from hwprune.verify.equality import difference


def test_picks_of_a_stacked_axis_become_a_split_of_heads(transformer, check, images) -> None:
    after = split_heads(transformer)
    counts = Counter(node.op for node in after.nodes)
    assert (counts["Split"], counts["Gather"]) == (2, 1)
    assert len(after.nodes) == len(transformer.nodes) - 4
    assert difference(transformer, after, (images.numpy(),)) == 0
    check(transformer, after)


def test_attention_with_products_of_their_own_stays() -> None:
    graph = build(attended, window)
    assert alike(graph, split_heads(graph))


def test_places_that_are_picked_in_part_stay(transformer) -> None:
    graph = transformer.copy()
    pick = next(n for n in graph.nodes if n.op == "Gather")
    pick.inputs[1] = gs.Constant("another", np.array(1))
    assert sum(node.op == "Split" for node in split_heads(graph).nodes) == 1
