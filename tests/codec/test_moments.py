"""Second moments of what weights are multiplied with, against sums over all rows."""

import numpy as np
import onnx
import pytest

from hwprune.codec import moments as module
from hwprune.codec.moments import moments
from hwprune.codec.probe import Probe
from hwprune.codec.products import input_rows
from hwprune.testing.specimens import coded_weights, every_form

MODEL = every_form()
X = np.random.default_rng(3).normal(size=(24, 8, 6, 6)).astype(np.float32)


def probe(x=X):
    return Probe(onnx.load_model_from_string(MODEL), coded_weights(MODEL), (x,))


@pytest.fixture
def every_row(monkeypatch):
    """All positions are looked at, not some."""
    monkeypatch.setattr(module, "_ROWS", 10**6)


def test_all_rows_give_the_mean_of_their_products(every_row):
    asked = probe()
    found = moments(asked)
    assert found.keys() == {w.index for w in asked.weights}
    names = [w.data for w in asked.weights]
    seen = {name: [] for name in names}
    for tensors in asked.read(names):
        for name in seen:
            seen[name].append(tensors[name])
    for w in asked.weights:
        x = np.concatenate(seen[w.data])
        rows = input_rows(w, x, 10**9, np.random.default_rng(0)).astype(np.float64)
        wanted = rows.swapaxes(1, 2) @ rows / rows.shape[1]
        np.testing.assert_allclose(found[w.index], wanted, rtol=1e-3, atol=1e-4)


def test_portions_do_not_change_the_mean(every_row, monkeypatch):
    whole = moments(probe())
    monkeypatch.setattr(module, "_PORTION", 5)
    for index, moment in moments(probe()).items():
        np.testing.assert_allclose(moment, whole[index], rtol=1e-4, atol=1e-5)


def test_a_sample_of_rows_is_near_to_all(every_row, monkeypatch):
    whole = moments(probe())
    monkeypatch.setattr(module, "_ROWS", 8)
    for index, moment in moments(probe()).items():
        assert np.linalg.norm(moment - whole[index]) < 0.4 * np.linalg.norm(whole[index])


def test_the_same_seed_gives_the_same_moments(monkeypatch):
    monkeypatch.setattr(module, "_ROWS", 4)
    first, again, other = (moments(probe(), seed) for seed in (0, 0, 1))
    for index, moment in first.items():
        np.testing.assert_array_equal(moment, again[index])
    assert any((first[i] != other[i]).any() for i in first)
