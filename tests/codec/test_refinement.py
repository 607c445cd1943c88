"""Chunks as they are read: what was written, and what nobody would write."""

import struct
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwprune.codec.chunks import pieces, write_chunk
from hwprune.codec.decoder.ans import MOST_BITS, MOST_SYMBOLS
from hwprune.codec.decoder.container import DecodeError
from hwprune.codec.decoder.refinement import (
    CHUNK,
    HEAD,
    LANE,
    SLOPES,
    Refinement,
    gap_table,
    reach,
    stride,
    walk,
)


def refinement(count: int, *chunks: bytes) -> Refinement:
    found = Refinement(memoryview(HEAD.pack(count, sum(map(len, chunks)))), count)
    for chunk in chunks:
        found.add(memoryview(chunk))
    return found


def in_walk(weights: np.ndarray) -> np.ndarray:
    found = np.empty_like(weights)
    for first, places in walk(0, len(weights), len(weights)):
        found[places] = weights[first : first + len(places)]
    return found


def good(count: int = 1000, threshold: int = 9, share: float = 0.1) -> bytes:
    rng = np.random.default_rng(0)
    places = np.flatnonzero(rng.random(count) < share)
    return write_chunk(threshold, 0, places, rng.random(len(places)) < 0.5)


@pytest.mark.parametrize("slope", range(SLOPES))
def test_tables_are_whole_and_fall_as_a_geometric_distribution_does(slope):
    table = gap_table(slope)
    assert table.sum() == 1 << MOST_BITS
    assert len(table) <= MOST_SYMBOLS
    share = 1 - 2 ** (-4 / ((4 + slope % 4) << (slope // 4)))  # 16ths of a weight per 2^(1/4)
    gaps = np.arange(reach(slope))
    wanted = np.append(share * (1 - share) ** gaps, (1 - share) ** len(gaps))
    assert wanted.sum() == pytest.approx(1)
    waste = (wanted * np.log2(wanted / (table[1:] / table.sum()))).sum()
    assert waste < 0.03  # bits of a symbol; the staircase and at least 1 for each


@pytest.mark.parametrize("count", [1, 2, 3, 10, 1000, 65536, 300_007, (1 << 31) - 1])
def test_a_walk_meets_every_weight_once(count):
    assert np.gcd(stride(count), count) == 1
    if count < 1 << 20:
        places = np.concatenate([p for _, p in walk(0, count, count)])
        assert sorted(places.tolist()) == list(range(count))


def test_a_stretch_of_the_walk_is_spread_over_all_weights():
    count = 100_000
    places = np.concatenate([p for _, p in walk(0, count, count)])
    early = np.flatnonzero(places < count // 20)
    assert np.diff(early, prepend=0).max() < 3 * 20


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 40_000),
    st.floats(0, 1),
    st.integers(1, 1 << 30),
    st.integers(1, 9),
    st.integers(0, 1000),
)
def test_chunks_are_read_as_they_were_written(count, share, threshold, blocks, seed):
    rng = np.random.default_rng(seed)
    hits = np.flatnonzero(rng.random(count) < share)
    hits = hits if len(hits) else np.array([count - 1])
    negative = rng.random(count) < 0.5
    cut = pieces(np.array_split(hits, blocks), len(hits), count)
    chunks = [write_chunk(threshold, at, p, negative[p]) for at, p in cut]
    wanted = np.zeros(count, np.int32)
    wanted[hits] = np.where(negative[hits], -threshold, threshold)
    assert np.array_equal(in_walk(refinement(count, *chunks).take(count)), wanted)


def test_a_walk_that_hits_all_of_them_takes_a_bit_each():
    count = 3 * LANE + 5
    chunk = write_chunk(1, 0, np.arange(count), np.zeros(count, np.bool_))
    assert len(chunk) == pytest.approx(2 * count / 8, rel=0.05)  # a sign and a gap
    assert (refinement(count, chunk).take(count) == 1).all()


def test_three_of_a_million_are_found():
    places = np.array([5, 400_000, 999_999])
    chunk = write_chunk(7, 0, places, np.array([True, False, True]))
    found = in_walk(refinement(1_000_000, chunk).take(1_000_000))
    assert np.flatnonzero(found).tolist() == places.tolist()
    assert found[places].tolist() == [-7, 7, -7]


def test_another_threshold_walks_anew_and_needs_no_sign_of_what_has_one():
    first = write_chunk(8, 0, np.array([1, 4]), np.array([True, False]))
    second = write_chunk(4, 0, np.array([0, 1, 4]), np.array([False]))
    found = in_walk(refinement(10, first, second).take(10))
    assert found.tolist() == [4, -12, 0, 0, 12, 0, 0, 0, 0, 0]


def test_reading_goes_on_where_a_prefix_ended():
    hits = np.arange(0, 30_000, 3)
    chunks = [write_chunk(8, at, p, p % 2 == 0) for at, p in pieces([hits], 10_000, 30_000)]
    assert len(chunks) > 3
    whole = refinement(30_000, *chunks).take(30_000)
    head = memoryview(HEAD.pack(30_000, sum(map(len, chunks))))
    part = Refinement(head, 30_000)
    part.add(memoryview(chunks[0]))
    assert part.take(1)[0] == whole[0]  # so the first chunk has been applied
    for chunk in chunks[1:]:
        part.add(memoryview(chunk))
    assert part.share == 1
    assert np.array_equal(part.take(29_999), whole[1:])


def changed(**fields: int) -> bytes:
    chunk = good()
    threshold, symbols, slope = CHUNK.unpack_from(chunk)
    values = {"threshold": threshold, "symbols": symbols, "slope": slope} | fields
    return CHUNK.pack(*values.values()) + chunk[CHUNK.size :]


@pytest.mark.parametrize(
    ("chunk", "message"),
    [
        (b"", "too short"),
        (good()[: CHUNK.size - 1], "too short"),
        (changed(threshold=0), "cannot be"),
        (changed(threshold=1 << 31), "cannot be"),
        (changed(slope=SLOPES), "cannot be"),
        (changed(symbols=0), "cannot be"),
        (changed(symbols=(1 << 32) - 1), "cannot be"),
        (changed(symbols=100_000), "more than it holds"),
        (CHUNK.pack(9, 5, 9) + struct.pack("<H", 60_000), "more than it holds"),
        (good() + b"\0", "signs"),
        (good()[:-1], "signs"),
    ],
    ids=lambda value: value if isinstance(value, str) else "chunk",
)
def test_chunks_that_cannot_be(chunk, message):
    with pytest.raises(DecodeError, match=message):
        refinement(1000, chunk).take(1000)


def test_a_lane_of_another_length_is_damaged():
    chunk = bytearray(good())
    chunk[CHUNK.size] -= 1
    with pytest.raises(DecodeError):
        refinement(1000, bytes(chunk)).take(1000)


def test_more_symbols_than_were_written_are_never_taken_for_weights():
    """Behind its end a stream goes on with the first symbol, which nobody writes."""
    _, symbols, _ = CHUNK.unpack_from(good())
    with pytest.raises(DecodeError, match="gap"):
        refinement(1000, changed(symbols=symbols + 1)).take(1000)


@pytest.mark.parametrize("count", [1000, 400])
def test_places_that_are_not_there(count):
    """The second chunk goes on behind the first one, as its threshold is the same."""
    with pytest.raises(DecodeError, match="not there"):
        refinement(count, good(1000), good(1000)).take(count)


def test_huge_gaps_are_beyond_all_weights():
    chunk = write_chunk(9, 0, np.array([500_000_000]), np.array([True]))
    assert len(chunk) > 1000  # so many stretches without any hit
    with pytest.raises(DecodeError, match="not there"):
        refinement(1000, chunk).take(1000)


def test_a_chunk_that_ends_in_a_gap():
    stretch = (1 << 24) - 1  # the last slot: a stretch without any hit
    chunk = CHUNK.pack(9, 1, 20) + struct.pack("<HI", 1, stretch - int(gap_table(20)[-1] << 8) + 1)
    with pytest.raises(DecodeError, match="gap"):
        refinement(100_000, chunk).take(100_000)


@pytest.mark.parametrize(
    "head",
    [b"", HEAD.pack(10, 10)[:-1], HEAD.pack(10, 10) + b"\0", HEAD.pack(0, 9), HEAD.pack(101, 9)],
)
def test_heads_that_cannot_be(head):
    with pytest.raises(DecodeError):
        Refinement(memoryview(head), 100)


def test_more_chunks_than_declared_and_more_weights_than_refined():
    found = Refinement(memoryview(HEAD.pack(1000, len(good()))), 1000)
    found.add(memoryview(good()))
    with pytest.raises(DecodeError, match="more chunks"):
        found.add(memoryview(good()))
    assert len(found.take(999)) == 999
    for count in (2, -1):
        with pytest.raises(DecodeError, match="more weights"):
            found.take(count)


def test_many_symbols_in_few_bytes_take_neither_long_nor_much():
    chunk = CHUNK.pack(9, 100 * LANE, 0) + bytes(200)
    begin = time.perf_counter()
    with pytest.raises(DecodeError, match="more than it holds"):
        refinement(1 << 20, chunk).take(1)
    assert time.perf_counter() - begin < 1
