"""Few levels for many weights: the best ones, and rounds that never get worse."""

from itertools import combinations

import numpy as np
import pytest
from sklearn.cluster import KMeans

from hwprune.codec.levels import Levels, best, cells, rounds


def _error(values, weights, levels):
    return float((weights * np.min((values[:, None] - levels) ** 2, 1)).sum())


def _least_error(values, weights, count):
    """By trying all runs of the sorted values."""
    order = np.argsort(values)
    values, weights = values[order], weights[order]
    found = np.inf
    for borders in combinations(range(1, len(values)), count - 1):
        runs = list(zip((0, *borders), (*borders, len(values)), strict=True))
        means = [np.average(values[a:b], weights=weights[a:b]) for a, b in runs]
        pairs = zip(runs, means, strict=True)
        found = min(found, sum(weights[a:b] @ (values[a:b] - m) ** 2 for (a, b), m in pairs))
    return found


@pytest.mark.parametrize("count", [1, 2, 4, 7])
def test_levels_of_few_values_are_the_best(count):
    rng = np.random.default_rng(count)
    values, weights = rng.normal(size=12) + 100, rng.uniform(0.1, 3, 12)
    levels = best(cells(values, weights), count)
    assert len(levels) == count
    least = _least_error(values, weights, count)
    assert _error(values, weights, levels) == pytest.approx(least, rel=1e-9)


def test_levels_of_many_values_are_as_good_as_of_many_starts():
    values = np.random.default_rng(0).laplace(size=3000)
    reference = KMeans(16, n_init=10, random_state=0).fit(values[:, None]).inertia_
    data = cells(values, np.ones(3000))
    *_, (levels, _) = rounds(data, Levels(best(data, 16), np.zeros(16)), 0.0)
    assert _error(values, 1.0, levels.values) < 1.002 * reference


def test_the_histogram_keeps_count_mass_and_middle():
    rng = np.random.default_rng(1)
    values, weights = rng.laplace(size=200_000), np.exp(rng.normal(size=200_000))
    data = cells(values, weights)
    assert len(data.values) <= 1 << 16
    mass = data.counts * data.weights
    assert data.counts.sum() == 200_000
    assert mass.sum() == pytest.approx(weights.sum())
    assert mass @ data.values == pytest.approx(weights @ values, abs=1e-6 * weights.sum())
    spread = weights @ values**2
    assert spread - mass @ data.values**2 < 1e-4 * spread  # what is lost within cells


@pytest.mark.parametrize("fixed", [0, 700])
@pytest.mark.parametrize("rate", [0.0, 0.01, 0.3])
def test_the_objective_never_rises(rate, fixed):
    rng = np.random.default_rng(2)
    values, weights = rng.laplace(size=2000), np.exp(rng.normal(size=2000))
    data = cells(values, weights)
    start = np.concatenate([[0.0] if fixed else [], np.linspace(-4, 5, 40)])
    first = Levels(start, np.zeros(len(start)), fixed)
    first = first.updated(data, first.nearest(data.values, data.weights), rate)
    objectives = [objective for _, objective in rounds(data, first, rate)]
    assert objectives[-1] < 0.97 * objectives[0]
    assert np.all(np.diff(objectives) <= 1e-9 * objectives[0])


def test_the_objective_is_error_and_rate():
    values, weights = np.array([0.0, 0.1, 1.0, 1.2]), np.array([1.0, 2.0, 1.0, 3.0])
    data = cells(values, weights)
    levels = Levels(np.array([0.0, 1.0]), np.array([0.5, 0.25]), 3)
    expected = (2 * 0.1**2 + 3 * 0.2**2) + 2 * 0.5 + 2 * 0.25 + 3 * 0.5
    index = levels.nearest(values, weights)
    assert index.tolist() == [0, 0, 1, 1]
    assert levels.objective(data, index) == pytest.approx(expected)


def test_levels_that_nothing_has_are_dropped():
    data = cells(np.array([1.0, 1.1, 5.0]), np.ones(3))
    levels = Levels(np.array([1.0, 3.0, 5.0]), np.zeros(3))
    found = levels.updated(data, levels.nearest(data.values, data.weights), 2.0)
    assert found.values.tolist() == pytest.approx([1.05, 5.0])
    assert found.prices.tolist() == pytest.approx([-2 * np.log(2 / 3), -2 * np.log(1 / 3)])
