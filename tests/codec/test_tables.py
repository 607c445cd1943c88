"""Tables of values: what is written is what is read, and costs about its entropy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwprune.codec.decoder.ans import MOST_SYMBOLS
from hwprune.codec.decoder.budget import Budget
from hwprune.codec.decoder.container import DecodeError
from hwprune.codec.decoder.tables import lookup, numbers, read_table, read_tables
from hwprune.codec.tables import describe

BITS = 14


def described(values):
    lowest = int(values.min())
    counts = np.bincount(values - lowest)
    return describe(lowest, counts, BITS), lowest, counts


@settings(deadline=None)
@given(st.lists(st.integers(-3000, 3000), min_size=1, max_size=300))
def test_values_come_back(values):
    array = np.array(values, np.int32)
    found, _, _ = described(array)
    symbols, away = found.symbols(array)
    read = read_table(found.entry, BITS)
    np.testing.assert_array_equal(read.frequency, found.table.frequency)
    assert read.escapes(symbols) == len(away)
    np.testing.assert_array_equal(read.values(symbols, away.astype(np.int64)), array)
    assert (read.frequency[symbols] > 0).all()


@pytest.mark.parametrize("count", [1, 2, 3, 100, 1000, 4095, 4096, 5000])
def test_tables_of_any_size(count):
    values = np.repeat(np.arange(count), 3).astype(np.int32) - count // 2
    found, _, _ = described(values)
    assert len(found.table.frequency) <= MOST_SYMBOLS
    assert found.table.escape == (count >= MOST_SYMBOLS)
    assert found.table.certain == (count == 1)
    symbols, away = found.symbols(values)
    np.testing.assert_array_equal(found.table.values(symbols, away), values)


def test_rare_values_far_away_escape():
    values = np.append(np.random.default_rng(0).integers(-5, 6, 5000), [100_000, -70_000])
    found, _, _ = described(values.astype(np.int32))
    assert len(found.table.frequency) < 20
    symbols, away = found.symbols(values.astype(np.int32))
    assert away.tolist() == [100_000, -70_000]
    np.testing.assert_array_equal(found.table.values(symbols, away), values)


def test_frequencies_are_near_to_those_that_were_counted():
    values = np.rint(np.random.default_rng(0).laplace(0, 6, 50_000)).astype(np.int32)
    found, lowest, counts = described(values)
    shares = counts[counts > 0] / len(values)
    entropy = -len(values) * (shares * np.log2(shares)).sum()
    assert entropy < found.bits(lowest, counts) < 1.01 * entropy + 600


def test_numbers_are_printable_and_come_back():
    assert numbers("0:~").tolist() == [0, 10, 78]
    with pytest.raises(DecodeError):
        numbers("0\x1f")


@pytest.mark.parametrize(
    "entry",
    [
        {"levels": "", "lowest": 0},
        {"levels": "0" * (MOST_SYMBOLS + 1), "lowest": 0},
        {"levels": "0", "lowest": 1 << 31},
        {"levels": "1", "lowest": 0},  # its only symbol does not occur
    ],
)
def test_damaged_tables(entry):
    with pytest.raises(DecodeError, match="table"):
        read_table(entry, BITS)


def test_all_tables_of_a_section():
    entries = [{"levels": text, "lowest": 3} for text in ("0", "00", "0O5")]
    tables, bits = read_tables({"bits": 10, "tables": entries}, Budget(1000))
    assert bits == 10
    assert lookup(tables, bits).shape == (3, 1024)
    for wrong in ({"bits": 17}, {"bits": 0}, {"tables": []}):
        with pytest.raises(DecodeError, match="impossible"):
            read_tables({"bits": 10, "tables": entries, **wrong}, Budget(1000))
