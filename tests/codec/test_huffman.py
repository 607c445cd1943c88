"""Huffman codes: shortest, complete, decoded in lanes."""

from itertools import pairwise, product

import numpy as np
import pytest

from hwprune.codec.decoder.container import DecodeError
from hwprune.codec.decoder.huffman import read_code, read_streams
from hwprune.codec.huffman import bits_of, code_lengths, codewords, encode_streams


def _least_bits(counts, most):
    """The shortest prefix code by trying all lengths that Kraft's inequality allows."""
    tried = product(range(1, most + 1), repeat=len(counts))
    return min(
        sum(n * c for n, c in zip(lengths, counts, strict=True))
        for lengths in tried
        if sum(2.0**-n for n in lengths) <= 1
    )


@pytest.mark.parametrize("most", [3, 4, 5])
def test_no_code_of_limited_length_is_shorter(most):
    rng = np.random.default_rng(most)
    for _ in range(25):
        counts = np.ceil(np.exp(rng.normal(size=rng.integers(2, 6)) * 3)).astype(np.int64)
        lengths = code_lengths(counts, most)
        assert lengths.max() <= most
        assert counts @ lengths == _least_bits(counts.tolist(), most)


def test_codes_are_complete_and_no_word_begins_another():
    rng = np.random.default_rng(0)
    for n, most in [(2, 12), (40, 6), (64, 6), (1500, None)]:
        lengths = code_lengths(1 + (rng.pareto(0.3, n) % 1e9).astype(np.int64), most)
        assert (2.0**-lengths).sum() == 1
        words = [format(w, f"0{n}b") for w, n in zip(codewords(lengths), lengths, strict=True)]
        ordered = sorted(words)
        assert not any(b.startswith(a) for a, b in pairwise(ordered))


def test_the_limit_costs_next_to_nothing():
    counts = np.maximum(1e9 * 0.7 ** np.arange(64), 1).astype(np.int64)
    limited, free = code_lengths(counts), code_lengths(counts, 40)
    assert limited.max() < free.max()
    assert bits_of(counts, limited) < 1.002 * bits_of(counts, free)


def test_more_symbols_than_words_are_refused():
    with pytest.raises(ValueError, match="9 symbols"):
        code_lengths(np.ones(9, np.int64), 3)


def test_a_symbol_that_does_not_occur_has_no_word():
    assert code_lengths(np.array([5, 0, 1, 2])).tolist() == [1, 0, 2, 2]
    assert code_lengths(np.array([0, 7])).tolist() == [0, 1]


def _streams(rng):
    streams = [
        (np.minimum(rng.geometric(p, n), 60).astype(np.uint16), code) for p, n, code in SIZES
    ]
    streams.append((np.full(9000, 3, np.uint16), 3))
    used = [[s for s, c in streams if c == code] for code in range(4)]
    codes = [code_lengths(np.bincount(np.concatenate(one))) for one in used]
    return streams, codes


SIZES = [(0.3, 50_000, 0), (0.05, 1, 1), (0.05, 4096, 1), (0.8, 4097, 2), (0.3, 100, 0)]


def test_streams_come_back():
    streams, codes = _streams(np.random.default_rng(1))
    meta, payload = encode_streams(streams, codes)
    read = read_streams(meta, memoryview(payload))
    decoded = read.decoded(range(len(streams)))
    for (symbols, _), found in zip(streams, decoded, strict=True):
        assert np.array_equal(found, symbols)
    assert np.array_equal(read.decoded([3])[0], streams[3][0])
    bits = sum(int(codes[c][s].sum()) for s, c in streams[:-1])  # the last one is certain
    assert len(payload) == -(-bits // 8)


def test_blocks_are_the_stream_in_another_order():
    streams, codes = _streams(np.random.default_rng(2))
    meta, payload = encode_streams(streams, codes)
    read = read_streams(meta, memoryview(payload))
    for i, (symbols, _) in enumerate(streams):
        found = np.full(len(symbols), 999)
        for places, part in read.blocks(i, 300):
            found[places] = part
        assert np.array_equal(found, symbols)


def test_bits_are_near_the_entropy():
    rng = np.random.default_rng(3)
    symbols = np.clip(np.rint(rng.laplace(size=400_000) * 4) + 16, 0, 31).astype(np.uint16)
    counts = np.bincount(symbols)
    shares = counts[counts > 0] / len(symbols)
    _, payload = encode_streams([(symbols, 0)], [code_lengths(counts)])
    entropy = -(shares * np.log2(shares)).sum() * len(symbols) / 8
    assert entropy <= len(payload) < 1.02 * entropy


@pytest.mark.parametrize(
    "text", ["", "0", "00", "112", "122222", "1111", "A", "!", "1" + "0" * 5000]
)
def test_codes_that_are_none_are_refused(text):
    with pytest.raises(DecodeError):
        read_code(text)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("lane", 0),
        ("lane", 1 << 20),
        ("streams", [[0, 50_000]]),
        ("streams", [[9, 10]]),
        ("streams", []),
        ("streams", [[0, 1 << 60]]),
        ("bits", [1, 2, 3]),
        ("bits", []),
    ],
)
def test_descriptions_that_do_not_fit_are_refused(key, value):
    streams, codes = _streams(np.random.default_rng(4))
    meta, payload = encode_streams(streams, codes)
    with pytest.raises(DecodeError):
        read_streams(meta | {key: value}, memoryview(payload))


def test_a_lane_that_ends_elsewhere_is_damage():
    streams, codes = _streams(np.random.default_rng(5))
    meta, payload = encode_streams(streams, codes)
    meta["bits"][0] -= 1
    meta["bits"][1] += 1
    with pytest.raises(DecodeError, match="end"):
        read_streams(meta, memoryview(payload)).decoded(range(len(streams)))
