"""Loudness of rows, columns and places, and the layouts that it gives."""

import numpy as np
import pytest

from hwprune.codec.classes import loudness
from hwprune.codec.decoder.tables import TOP


def product(seed=0, shape=(40, 60, 5)):
    """Laplacian values whose scale is a product over the axes, and log2 of its factors."""
    rng = np.random.default_rng(seed)
    logs = [rng.uniform(-2, 2, n) for n in shape]
    scale = np.exp2(logs[0][:, None, None] + logs[1][:, None] + logs[2])
    return rng.laplace(0, 40, shape) * scale, logs


def test_factors_are_found_again():
    values, logs = product()
    for found, true, tolerance in zip(loudness(values).axes, logs, (0.3, 0.3, 0.1), strict=True):
        apart = found - true
        assert np.abs(apart - apart.mean()).max() < tolerance + 0.4
        assert np.std(apart) < tolerance


def test_the_sum_is_about_the_size_of_an_element():
    values, _ = product(1)
    rows, columns, places = loudness(values).axes
    expected = np.exp2(rows[:, None, None] + columns[:, None] + places)
    assert np.abs(values).mean() == pytest.approx(expected.mean(), rel=0.1)


def test_sums_count_every_element():
    values, _ = product(2)
    for steps in (1, 2, 3):
        assert sum(n for _, n in loudness(values).sums(steps)) == values.size


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_every_element_is_in_one_block_of_a_table_of_its_sum(steps):
    values, _ = product(3)
    found = loudness(values)
    low, high = -2, 9
    layout = found.layout(steps, 10, low, high)
    assert max(int(c.max()) for c in layout.classes) <= TOP
    seen, tables = np.zeros(values.shape, int), np.zeros(values.shape, int)
    for table, box in layout.blocks():
        seen[box] += 1
        tables[box] = table
    assert (seen == 1).all()
    rows, columns, places = found.rounded(steps)
    sums = rows[:, None, None] + columns[:, None] + places
    wanted = 10 + np.clip(sums, low, high) - low
    np.testing.assert_array_equal(layout.restored(tables), wanted)
    np.testing.assert_array_equal(layout.restored(layout.sorted(values)), values)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 50), (7, 1, 1), (1, 6, 2)])
def test_silence_and_single_rows_are_finite(shape):
    for values in (np.zeros(shape), np.ones(shape), np.eye(*shape[1:])[None][:1]):
        assert all(np.isfinite(axis).all() for axis in loudness(values).axes)
