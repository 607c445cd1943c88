"""All rewrites on all kinds of networks: the same function, and nothing is left half done."""

import pytest

from hwprune.rewrites.table import REWRITES, alike, rewritten
from hwprune.testing.networks import BLOCKS, build
from hwprune.verify.equality import ROUNDING, difference


def test_names_and_words_are_distinct() -> None:
    assert len({r.name for r in REWRITES}) == len({r.what for r in REWRITES}) == len(REWRITES)


@pytest.mark.parametrize("block", BLOCKS)
def test_everything_at_once_on_every_block(block, images) -> None:
    graph = build(block)
    after = rewritten(graph, {r.name for r in REWRITES})
    assert difference(graph, after, (images.numpy(),)) <= ROUNDING


def test_everything_at_once_on_a_transformer(transformer, check) -> None:
    after = rewritten(transformer, {r.name for r in REWRITES})
    assert len(after.nodes) < len(transformer.nodes) + 4
    check(transformer, after)
    assert alike(after, rewritten(after, {r.name for r in REWRITES}))


def test_nothing_by_no_name(transformer) -> None:
    assert rewritten(transformer, ()) is transformer
