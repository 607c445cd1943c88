"""The cheapest path: against all paths, and against what no single grid can do."""

from itertools import product

import numpy as np
import pytest

from hwprune.codec.viterbi import Elements, best_paths

NUMBERS = np.arange(-5, 6)


def _bits(numbers: np.ndarray, grids: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Of a geometric distribution beside a zero, from the probabilities themselves."""
    rest, ratio = np.exp(-np.where(grids, 0.25, 0.5) / means), np.exp(-1 / means)
    chances = 0.5 * rest * (1 - ratio) * ratio ** (np.abs(numbers) - 1.0)
    return -np.log2(np.where(numbers == 0, 1 - rest, chances))


def _grids(numbers: np.ndarray) -> np.ndarray:
    """Paths x elements."""
    found = np.zeros_like(numbers)
    for i in range(1, numbers.shape[1]):
        earlier = sum(found[:, i - back] for back in (2, 3) if i >= back)
        found[:, i] = (numbers[:, i - 1] + earlier) % 2
    return found


def _costs(numbers: np.ndarray, given: Elements, price: float) -> np.ndarray:
    grids = _grids(numbers)
    points = numbers - np.sign(numbers) * grids / 2
    errors = given.weights * np.square(given.values - points)
    return (errors + price * _bits(numbers, grids, given.sizes)).sum(1)


def _elements(seed: int, shape: tuple[int, int], scale: float) -> Elements:
    rng = np.random.default_rng(seed)
    sizes = rng.uniform(0.5, 1.5, shape) * scale
    weights = rng.uniform(0.5, 2, shape)
    return Elements(
        *(a.astype(np.float32) for a in (rng.laplace(size=shape) * sizes, sizes, weights))
    )


@pytest.mark.parametrize("price", [0.0, 0.07, 0.4])
@pytest.mark.parametrize("scale", [0.2, 0.6])
@pytest.mark.parametrize("seed", range(4))
def test_no_path_is_cheaper(seed, scale, price):
    given = _elements(seed, (1, 5), scale)
    every = np.array(list(product(NUMBERS, repeat=5)))
    found = best_paths([given], price, [5])[0]
    assert (found & 1 == _grids(found >> 1)).all()
    assert np.abs(found >> 1).max() < NUMBERS.max()  # all that could be better was tried
    cost = _costs(found >> 1, given, price)[0]
    assert cost == pytest.approx(_costs(every, given, price).min(), rel=1e-5)


def test_lines_and_runs_do_not_touch_one_another():
    lines, line = _elements(9, (3, 10), 1.0), _elements(8, (1, 7), 0.5)
    together = best_paths([lines, line], 0.07, [4, 6])
    for given, run, found in zip([lines, line], [4, 6], together, strict=True):
        count, length = given.values.shape
        for row in range(count):
            for start in range(0, length, run):
                own = slice(start, min(start + run, length))
                alone = Elements(*(a[row : row + 1, own] for a in given))
                assert (
                    best_paths([alone], 0.07, [own.stop - start])[0][0] == found[row, own]
                ).all()


def _tried(step: float, price: float) -> tuple[float, float]:
    """Entropy and mean square error of a Laplacian of mean magnitude 1."""
    values = np.random.default_rng(0).laplace(size=(300, 1000)).astype(np.float32) / np.float32(
        step
    )
    alike = np.ones_like(values)
    [found] = best_paths([Elements(values, alike / np.float32(step), alike)], price, [1000])
    numbers, grids, bits = found >> 1, found & 1, 0.0
    for grid in (0, 1):
        counts = np.unique(numbers[grids == grid], return_counts=True)[1]
        bits -= (counts * np.log2(counts / counts.sum())).sum() / values.size
    points = numbers - np.sign(numbers) * grids / 2
    return bits, float(np.square(step * (values - points)).mean())


def test_paths_lie_more_densely_than_any_grid():
    """At a high rate uniform points lose 1.53 dB (Gish and Pierce 1968)."""
    bits, error = _tried(0.2, 0.075)
    entropy = np.log2(2 * np.e)
    shannon = np.exp2(2 * (entropy - bits)) / (2 * np.pi * np.e)  # the lower bound
    assert bits > 3.5
    assert 10 * np.log10(error / shannon) < 1.53 - 0.85


def test_bits_that_cost_more_are_fewer():
    rates = [_tried(0.8, price)[0] for price in (0.0, 0.075, 0.2)]
    assert rates[0] > rates[1] + 0.03 > rates[2] + 0.06
