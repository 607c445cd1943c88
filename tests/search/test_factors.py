import numpy as np
import pytest

from hwprune.search.cutset import CutsetSearch
from hwprune.search.factors import Elimination, Layout
from hwprune.search.moves import Moves


def random_sum(seed, variables=7, tables=9, batch=3):
    """A layout over random scopes of 0-3 variables, and its flat vectors."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 4, variables).tolist()
    scopes = [
        tuple(rng.permutation(variables)[: rng.integers(0, 4)].tolist()) for _ in range(tables)
    ]
    layout = Layout(scopes, sizes)
    flat = np.zeros((batch, layout.length))
    parts = []
    for scope in scopes:
        table = rng.normal(size=[sizes[v] for v in scope])
        positions, values = layout.place(scope, table)
        np.add.at(flat, (slice(None), positions), values * np.arange(1, batch + 1)[:, None])
        parts.append((scope, table))
    return layout, flat, parts


def everything(sizes):
    return np.indices(sizes).reshape(len(sizes), -1).T


@pytest.mark.parametrize("seed", range(20))
def test_a_layout_holds_the_sum(seed):
    layout, flat, parts = random_sum(seed)
    options = everything(layout.sizes)
    expected = [sum(t[tuple(row[list(s)])] for s, t in parts) for row in options]
    np.testing.assert_allclose(layout.totals(flat[0], options), expected, atol=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_elimination_finds_the_minimum_of_every_row(seed):
    layout, flat, _ = random_sum(seed)
    found = Elimination(layout.scopes, layout.sizes).minimise(flat)
    for row, options in zip(flat, found, strict=True):
        least = layout.totals(row, everything(layout.sizes)).min()
        assert layout.totals(row, options[None])[0] == pytest.approx(least, abs=1e-12)


def test_elimination_of_a_chain_stays_small():
    scopes = [(i, i + 1) for i in range(99)]
    assert Elimination(scopes, [8] * 100).largest == 64


@pytest.mark.parametrize("seed", range(10))
def test_cutset_search_is_near_the_minimum(seed):
    layout, flat, _ = random_sum(seed, tables=14)
    found = CutsetSearch(layout, largest=12).minimise(flat[:1])
    total = layout.totals(flat[0], everything(layout.sizes))
    reached = layout.totals(flat[0], found)[0]
    assert reached - total.min() <= 0.05 * (total.max() - total.min())


@pytest.mark.parametrize("seed", range(10))
def test_moves_are_differences_of_sums(seed):
    layout, flat, _ = random_sum(seed)
    moves = Moves(layout)
    rng = np.random.default_rng(seed)
    present = np.array([rng.integers(s) for s in layout.sizes])

    def change(*picked):
        after = present.copy()
        for m in picked:
            after[moves.variable[m]] = moves.option[m]
        return np.diff(layout.totals(flat[0], np.stack([present, after])))[0]

    single = moves.single(flat[0], present)
    np.testing.assert_allclose(single, [change(m) for m in range(len(single))], atol=1e-12)
    expected = [change(a, b) for a, b in moves.pair.T]
    np.testing.assert_allclose(moves.pairs(flat[0], present, single), expected, atol=1e-12)
    for a, b in np.argwhere(moves.apart):
        assert single[a] + single[b] == pytest.approx(change(a, b), abs=1e-12)
