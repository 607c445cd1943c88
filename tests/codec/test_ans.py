"""Lanes by numpy against constriction's own decoder, and frequencies."""

import constriction
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwprune.codec.decoder.ans import MOST_BITS, MOST_SYMBOLS, decode_lanes, frequencies, slots
from hwprune.codec.decoder.container import DecodeError

LEVELS = st.lists(st.integers(0, 78), min_size=1, max_size=200).filter(any)


def coder(frequency):
    shares = frequency / frequency.sum()
    return constriction.stream.model.Categorical(shares, perfect=True)


def encoded(symbols, frequency):
    found = constriction.stream.stack.AnsCoder()
    found.encode_reverse(symbols, coder(frequency))
    return found.get_compressed()


def decoded(lanes, counts, tables, bits):
    """Of lanes, each by the table of that index."""
    words = np.concatenate([*lanes, np.zeros(0, np.uint32)])
    lengths = np.array([len(lane) for lane in lanes])
    lut = np.stack([slots(table, bits) for _, table in tables])
    owners = np.array([i for i, _ in tables])
    return decode_lanes(words, lengths, np.array(counts), owners, lut, bits)


@settings(deadline=None)
@given(LEVELS, st.integers(9, MOST_BITS))
def test_frequencies_sum_to_a_power_of_two(levels, bits):
    found = frequencies(levels, bits)
    assert found.sum() == 1 << bits
    assert ((found > 0) == (np.array(levels) > 0)).all()


def test_frequencies_of_as_many_symbols_as_there_may_be():
    rng = np.random.default_rng(0)
    for levels in (np.full(MOST_SYMBOLS, 78), rng.integers(1, 79, MOST_SYMBOLS)):
        found = frequencies(levels, MOST_BITS)
        assert found.sum() == 1 << MOST_BITS
        assert found.min() > 0


def test_frequencies_follow_quarters_of_an_octave():
    found = frequencies([78, 74, 70, 77], 16)
    shares = 2.0 ** (np.array([78, 74, 70, 77]) / 4)
    np.testing.assert_allclose(found / 2**16, shares / shares.sum(), atol=2e-4)


@pytest.mark.parametrize("levels", [[], [0, 0], [1] * 9])
def test_tables_that_cannot_be(levels):
    with pytest.raises(DecodeError, match="symbols"):
        frequencies(levels, 4)


@settings(deadline=None)
@given(LEVELS.filter(lambda levels: np.count_nonzero(levels) > 1), st.integers(10, MOST_BITS))
def test_slots_hold_symbol_start_and_frequency(levels, bits):
    frequency = frequencies(levels, bits)
    found = slots(frequency, bits)
    symbol = (found & np.uint64(0xFFFF)).astype(int)
    np.testing.assert_array_equal(symbol, np.repeat(np.arange(len(levels)), frequency))
    scale = 1 << (24 - bits)
    np.testing.assert_array_equal((found >> np.uint64(40)).astype(int), frequency[symbol] * scale)
    starts = (np.cumsum(frequency) - frequency)[symbol] * scale
    np.testing.assert_array_equal((found >> np.uint64(16)).astype(int) & (2**24 - 1), starts)


@pytest.mark.parametrize("bits", [10, 14, 16])
def test_lanes_equal_constriction(bits):
    rng, lanes, wanted, tables = np.random.default_rng(bits), [], [], []
    for i, count in enumerate([1, 2, 500, 77, 500, 3000, 1]):
        table = frequencies(rng.integers(1, 79, 60), bits)
        symbols = rng.choice(60, count, p=table / table.sum()).astype(np.int32)
        lanes.append(encoded(symbols, table))
        own = constriction.stream.stack.AnsCoder(lanes[-1]).decode(coder(table), count)
        np.testing.assert_array_equal(own, symbols)
        wanted.append(own)
        tables.append((i, table))
    found = decoded(lanes, [len(w) for w in wanted], tables, bits)
    for lane, symbols in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(lane[: len(symbols)], symbols)


def test_damage_in_a_lane_is_told():
    table = frequencies([78, 70, 60, 50], 14)
    symbols = np.random.default_rng(0).integers(0, 4, 1000).astype(np.int32)
    lane = encoded(symbols, table)
    assert (decoded([lane], [1000], [(0, table)], 14)[0] == symbols).all()
    for wrong, count in ((lane[1:], 1000), (np.append(lane, lane[:1]), 1000), (lane, 999)):
        with pytest.raises(DecodeError, match="damaged"):
            decoded([wrong], [count], [(0, table)], 14)
    with pytest.raises(DecodeError, match="as long as they say"):
        decode_lanes(
            lane, np.array([len(lane) + 1]), np.array([1000]), np.array([0]),
            slots(table, 14)[None], 14,
        )  # fmt: skip


def test_no_lanes_at_all():
    nothing = np.zeros(0, np.int64)
    table = slots(frequencies([78], 14), 14)[None]
    assert decode_lanes(nothing.astype(np.uint32), nothing, nothing, nothing, table, 14).size == 0
