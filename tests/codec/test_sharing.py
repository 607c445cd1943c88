"""Weight sharing by four quantisers, and values that are tuned to outputs."""

import numpy as np
import pytest

from hwprune.codec.sharing import QUANTISERS, share, tuned_centroids

AMOUNTS = {"kmeans": 16, "probabilistic": 16, "uniform": 16, "ecsq": 0.02}


def _laplacian(size, seed=0):
    return np.random.default_rng(seed).laplace(size=size).astype(np.float32)


def _entropy(index):
    shares = np.bincount(index.reshape(-1)) / index.size
    return float(-(shares[shares > 0] * np.log2(shares[shares > 0])).sum())


@pytest.mark.parametrize("name", QUANTISERS)
@pytest.mark.parametrize("size", [700, 90_000])
def test_what_was_pruned_stays_so(name, size):
    values = _laplacian(size)
    values[::3] = 0
    book = share(values, name, AMOUNTS[name])
    assert np.all(book.values[::3] == 0)
    assert np.count_nonzero(book.values) > size / 4


@pytest.mark.parametrize("name", QUANTISERS)
@pytest.mark.parametrize("value", [0.0, -3.5])
def test_one_value_is_kept(name, value):
    values = np.full((4, 3, 2), value, np.float32)
    book = share(values, name, AMOUNTS[name])
    assert book.values.shape == (4, 3, 2)
    assert np.allclose(book.values, values, rtol=0.2)
    assert len(book.centroids) == 1


@pytest.mark.parametrize("name", ["kmeans", "probabilistic", "uniform"])
@pytest.mark.parametrize("count", [2, 5, 32])
def test_there_are_no_more_values_than_asked_for(name, count):
    for size in (400, 90_000):
        book = share(_laplacian(size), name, count)
        assert count / 2 < len(book.centroids) <= count


@pytest.mark.parametrize("name", QUANTISERS)
def test_the_most_frequent_value_comes_first_and_all_occur(name):
    counts = np.bincount(share(_laplacian(5000), name, AMOUNTS[name]).index)
    assert np.all(np.diff(counts) <= 0)
    assert counts.min() > 0


def test_kmeans_is_near_the_best_quantiser_of_a_laplacian():
    """Lloyd and Max: 8 levels for unit variance leave 0.0541 (Jayant and Noll 1984, table 4.5)."""
    values = _laplacian(1_000_000) / np.sqrt(2, dtype=np.float32)
    book = share(values, "kmeans", 8)
    error = float(((book.values - values) ** 2).mean(dtype=np.float64))
    assert error / float((values**2).mean()) == pytest.approx(0.0541, rel=0.02)


def test_kmeans_takes_the_nearest_of_its_values():
    values = _laplacian(80_000)
    book = share(values, "kmeans", 12)
    away = np.abs(values[:, None] - book.centroids)
    assert np.allclose(np.abs(book.values - values), away.min(1), atol=2e-3)  # since the last round


def test_probabilistic_has_no_bias():
    each, few = 40_000, _laplacian(20)
    values = np.repeat(few, each)
    book = share(values, "probabilistic", 6)
    ends = np.sort(book.centroids)
    mean = book.values.reshape(20, each).mean(1, dtype=np.float64)
    noise = np.diff(ends).max() / 2 / np.sqrt(each)
    assert np.all(np.abs(mean - few) < 5 * noise)
    assert np.abs(book.values - values).max() > 100 * noise  # it does round
    assert {*ends} == {*np.quantile(values, np.linspace(0, 1, 6)).astype(np.float32)}


def test_uniform_lies_on_a_grid_and_uses_its_levels():
    values = _laplacian(30_000)
    for pruned in (False, True):
        values[::4] *= not pruned
        book = share(values, "uniform", 16)
        levels = np.sort(book.centroids).astype(np.float64)
        step = np.diff(levels).min()
        ranks = (levels - levels[0]) / step
        assert np.allclose(ranks, np.rint(ranks), atol=1e-3)
        assert np.abs(book.values - values).max() <= 0.5001 * step
        assert step < np.ptp(values) / 14


@pytest.mark.parametrize("amount", [0.3, 0.02, 0.001])
def test_ecsq_is_a_quarter_of_a_bit_above_what_is_possible(amount):
    """At a high rate 0.254 bits above Shannon's bound, here from its value for a Laplacian."""
    values = _laplacian(400_000)
    book = share(values, "ecsq", amount)
    error = float(((book.values - values) ** 2).mean(dtype=np.float64))
    bound = np.log2(2 * np.e) - 0.5 * np.log2(2 * np.pi * np.e * error)
    assert bound < _entropy(book.index) < bound + 0.28


def test_ecsq_spends_fewer_bits_than_kmeans_on_the_same_error():
    values = _laplacian(50_000)
    many = share(values, "kmeans", 16)
    error = ((many.values - values) ** 2).mean()
    book = share(values, "ecsq", 2 * error)
    assert ((book.values - values) ** 2).mean() < 1.05 * error
    assert _entropy(book.index) < _entropy(many.index) - 0.2


def test_ecsq_is_coarser_where_errors_count_less():
    values = _laplacian(40_000).reshape(2, -1)
    book = share(values, "ecsq", 0.05, np.array([[1.0], [0.05]]))
    errors = ((book.values - values) ** 2).mean(1)
    assert errors[1] > 2 * errors[0]
    assert _entropy(book.index[1]) < _entropy(book.index[0])


@pytest.mark.parametrize("power", [-100, 90])
@pytest.mark.parametrize("name", QUANTISERS)
def test_no_weights_are_too_small_or_large(name, power):
    values = _laplacian(3000)
    wanted = share(values, name, AMOUNTS[name])
    scaled = share(np.ldexp(values, power), name, AMOUNTS[name], 4.0**-power)
    assert np.array_equal(scaled.index, wanted.index)
    assert np.array_equal(scaled.centroids, np.ldexp(wanted.centroids, power))


@pytest.mark.parametrize(("name", "amount"), [("kmeans", 1), ("uniform", 5000), ("ecsq", -1.0)])
def test_impossible_amounts_are_refused(name, amount):
    with pytest.raises(ValueError, match=name):
        share(_laplacian(100), name, amount)


def _layer(seed, pruned=False):
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(200, 24)) @ rng.normal(size=(24, 24))
    values = rng.laplace(size=(10, 24)).astype(np.float32)
    if pruned:
        values[rng.random(values.shape) < 0.5] = 0
    return inputs, values, inputs.T @ inputs / len(inputs)


def _output_error(inputs, values, found):
    return float((((values - found.astype(np.float64)) @ inputs.T) ** 2).sum())


@pytest.mark.parametrize("pruned", [False, True])
def test_tuned_values_are_those_of_least_squares(pruned):
    inputs, values, moment = _layer(0, pruned)
    book = share(values, "kmeans", 6)
    found = tuned_centroids(values, book.index, book.centroids, moment)
    onehot = [inputs @ (row[:, None] == np.arange(6)) for row in book.index]
    free = book.centroids != 0
    design, wanted = np.concatenate(onehot)[:, free], (values @ inputs.T).reshape(-1)
    best = np.linalg.lstsq(design, wanted)[0]
    assert np.allclose(found[free], best, rtol=1e-4, atol=1e-5)
    assert np.all(found[~free] == 0)
    before = _output_error(inputs, values, book.values)
    after = _output_error(inputs, values, found[book.index])
    assert after < 0.995 * before


@pytest.mark.parametrize("seed", range(5))
def test_tuning_never_hurts_even_where_inputs_tell_little(seed):
    inputs, values, _ = _layer(seed)
    inputs[:, 3:] = inputs[:, :1]
    book = share(values, "kmeans", 16)
    found = tuned_centroids(values, book.index, book.centroids, inputs.T @ inputs)
    before = _output_error(inputs, values, book.values)
    assert _output_error(inputs, values, found[book.index]) <= before * (1 + 1e-6)


def test_values_are_tuned_to_the_outputs_of_all_groups():
    layers = [_layer(seed) for seed in range(3)]
    inputs, values, moments = (np.stack(parts) for parts in zip(*layers, strict=True))
    book = share(values, "kmeans", 6)
    found = tuned_centroids(values, book.index, book.centroids, moments)

    def error(centroids):
        pairs = zip(inputs, values, centroids[book.index], strict=True)
        return sum(_output_error(*pair) for pair in pairs)

    assert error(found) < error(book.centroids)
    for i in range(6):  # a minimum: no value is better moved
        for change in (-1e-2, 1e-2):
            assert error(found + change * (np.arange(6) == i)) > error(found)
