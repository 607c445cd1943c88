"""Arrays of integers: they come back, at about the entropy of what is in them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from hwprune.codec.arrays import Symbols, encode_arrays
from hwprune.codec.decoder.arrays import decode_arrays, lane_counts
from hwprune.codec.decoder.budget import Budget
from hwprune.codec.decoder.container import DecodeError

ANY = arrays(
    np.int32,
    array_shapes(min_dims=3, max_dims=3, max_side=12),
    elements=st.one_of(st.integers(-3, 3), st.integers(-60_000, 60_000)),
)
SPARE = 700  # bytes of descriptions


def coded(*values, classed=True, family="a"):
    return encode_arrays([Symbols(v, family, classed) for v in values])


def back(content, count=1 << 22):
    return decode_arrays(memoryview(content), Budget(count))


def entropy(values):
    """Bytes at which a table that knows all frequencies codes them."""
    _, counts = np.unique(values, return_counts=True)
    return float(-(counts * np.log2(counts / counts.sum())).sum() / 8)


@settings(max_examples=60, deadline=None)
@given(st.lists(ANY, min_size=1, max_size=4), st.booleans(), st.integers(1, 3))
def test_arrays_come_back(values, classed, families):
    symbols = [Symbols(v, f"f{i % families}", classed) for i, v in enumerate(values)]
    found = back(encode_arrays(symbols))
    assert len(found) == len(values)
    for a, b in zip(found, values, strict=True):
        assert a.dtype == np.int32
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("value", [0, 7, -1, 1 << 20, -(1 << 29)])
def test_one_value_takes_no_lanes(value):
    values = np.full((300, 20, 9), value, np.int32)
    content = coded(values)
    assert len(content) < 250
    np.testing.assert_array_equal(back(content)[0], values)


def test_a_single_element():
    np.testing.assert_array_equal(back(coded(np.array([[[-5]]], np.int32)))[0], [[[-5]]])


def test_lanes_of_all_lengths():
    assert lane_counts(0, 4) == []
    assert lane_counts(8, 4) == [4, 4]
    assert lane_counts(9, 4) == [4, 4, 1]
    for count in (4095, 4096, 4097, 9000):
        values = np.random.default_rng(count).integers(0, 5, (1, 1, count)).astype(np.int32)
        np.testing.assert_array_equal(back(coded(values))[0], values)


@pytest.mark.parametrize("scale", [0.2, 1, 8, 100])
def test_coded_at_the_entropy(scale):
    values = np.random.default_rng(0).laplace(0, scale, (200, 150, 3))
    values = np.rint(values).astype(np.int32)
    content = coded(values)
    assert len(content) < 1.05 * entropy(values) + SPARE
    np.testing.assert_array_equal(back(content)[0], values)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_rows_columns_and_places_of_their_own_loudness(axis):
    """Oracle: one table for each index of the axis, all frequencies known."""
    shape = [(120, 900, 1), (900, 120, 1), (100, 120, 9)][axis]
    scales = np.exp(np.random.default_rng(1).normal(0, 1.5, shape[axis])) * 3
    along = scales.reshape([-1 if i == axis else 1 for i in range(3)])
    values = np.rint(np.random.default_rng(0).laplace(0, 1, shape) * along).astype(np.int32)
    each = sum(entropy(part) for part in np.moveaxis(values, axis, 0))
    size = len(coded(values))
    assert size < 0.97 * entropy(values)
    assert size < 1.08 * each + SPARE
    np.testing.assert_array_equal(back(coded(values))[0], values)


def test_classes_are_left_out_where_they_do_not_pay():
    values = np.random.default_rng(0).integers(-9, 9, (60, 60, 1)).astype(np.int32)
    assert len(coded(values)) <= len(coded(values, classed=False)) + 20


def test_families_share_tables_only_among_themselves():
    rng = np.random.default_rng(0)
    low, high = (rng.integers(a, a + 4, (50, 60, 1)).astype(np.int32) for a in (0, 500))
    apart = encode_arrays([Symbols(low, "low", False), Symbols(high, "high", False)])
    joined = encode_arrays([Symbols(low, "one", False), Symbols(high, "one", False)])
    assert len(apart) < len(joined) - 500


def test_no_more_elements_than_the_model_has_room_for():
    content = coded(np.zeros((10, 10, 10), np.int32))
    assert back(content, 125)[0].size == 1000
    with pytest.raises(DecodeError, match="more weights"):
        back(content, 124)


def test_damaged_words_are_told():
    values = np.random.default_rng(0).integers(-9, 9, (60, 60, 1)).astype(np.int32)
    content = bytearray(coded(values))
    content[-1] ^= 64
    with pytest.raises(DecodeError, match="damaged"):
        back(bytes(content))
    for wrong in (content[:-4], content + b"abcd"):
        with pytest.raises(DecodeError):
            back(bytes(wrong))
