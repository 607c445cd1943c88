"""Union-find over channels, and sets of channels at one position."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hwprune.graph.axes import blocks, merge, reshaped, split
from hwprune.graph.ids import NONE, Channels, sets


def rows(ids):
    return [sorted(i for i in row if i != NONE) for row in ids.tolist()]


def test_classes_are_united_position_by_position():
    channels = Channels()
    a, b = channels.fresh(3), channels.fresh(3)
    channels.unite(a, b[::-1], "")
    assert channels.find(b)[:, 0].tolist() == [2, 1, 0]


def test_what_meets_a_fixed_position_is_frozen():
    channels = Channels()
    ids = channels.fresh(3)
    channels.unite(ids, np.array([[NONE], [ids[1, 0]], [NONE]]), "fixed there")
    assert channels.frozen() == {0: "fixed there", 2: "fixed there"}


def test_sets_are_sorted_and_hold_each_id_once():
    assert sets(np.array([[3, NONE, 3], [2, 1, NONE]])).tolist() == [[3, NONE], [1, 2]]


def test_an_axis_cut_in_two_goes_by_row_or_by_column():
    channels = Channels()
    ids = channels.fresh(6)
    heads, dims = split(channels, ids, [2, 3], "")
    found = rows(channels.find(ids))
    assert found == [
        sorted((int(heads[h, 0]), int(dims[d, 0]))) for h in range(2) for d in range(3)
    ]
    again = split(channels, merge([heads, dims], [2, 3]), [2, 3], "")
    assert [rows(channels.find(a)) for a in again] == [rows(heads), rows(dims)]


def test_a_flattened_axis_gives_its_channels_back():
    channels = Channels()
    ids = channels.fresh(4)
    flat = merge([ids, None], [4, 5])
    back, pixels = split(channels, flat, [4, 5], "")
    assert pixels is None
    assert rows(back) == rows(ids)


def test_a_single_channel_that_meets_a_refined_one_is_refined_alike():
    channels = Channels()
    query, other = channels.fresh(4), channels.fresh(4)
    split(channels, query, [2, 2], "")
    channels.unite(other, query, "")
    assert rows(channels.find(other)) == rows(channels.find(query))


def test_what_is_frozen_before_it_is_cut_stays_frozen():
    channels = Channels()
    ids = channels.fresh(4)
    channels.freeze(ids[:1], "an output")
    heads, dims = split(channels, ids, [2, 2], "")
    assert set(channels.frozen()) == {int(heads[0, 0]), int(dims[0, 0])}


def test_what_could_go_on_one_side_only_is_frozen():
    channels = Channels()
    ids = channels.fresh(4)
    heads, dims = split(channels, ids, [2, 2], "")
    channels.unite(np.repeat(heads, 2, axis=0), ids, "the other side has no dimensions")
    assert set(channels.frozen()) == {int(i) for i in dims.ravel()}


def test_an_axis_of_a_mixture_is_tied_along_its_leading_part():
    channels = Channels()
    known = channels.fresh(2)
    mixed = np.concatenate([known, known])  # not distinct, and no grid of 4 x 1
    first, second = split(channels, np.concatenate([mixed, channels.fresh(4)]), [2, 4], "")
    assert first is None
    found = rows(channels.find(second))
    assert found == [[0], [1], [0], [1]]


def test_blocks_match_axes_of_equal_product():
    assert list(blocks((2, 12, 5), (2, 3, 4, 5))) == [([0], [0]), ([1], [1, 2]), ([2], [3])]
    assert list(blocks((1, 3, 4, 5), (3, 20, 1))) == [([1], [0]), ([2, 3], [1])]
    assert list(blocks((4, 6), (3, 8))) == [([0, 1], [0, 1])]


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.data())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_any_way_there_and_back_keeps_who_goes_together(sizes, data):
    """Joining axes and cutting them again leaves every axis with the ids it had."""
    channels = Channels()
    chosen = data.draw(st.sets(st.integers(0, len(sizes) - 1)))
    lines = {axis: channels.fresh(sizes[axis]) for axis in chosen if sizes[axis] > 1}
    flat = [int(np.prod(sizes))]
    there = reshaped(channels, lines, sizes, flat, "")
    back = reshaped(channels, there, flat, sizes, "")
    assert {a: rows(channels.find(ids)) for a, ids in back.items()} == {
        a: rows(ids) for a, ids in lines.items()
    }
