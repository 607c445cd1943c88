"""Oracle: the paper's algorithm, one magnitude after the other."""

import numpy as np
import pytest

from hwprune.codec.refining import ONE, first_threshold, normalised, refinements


def one_by_one(magnitudes: list[int], threshold: int) -> list[tuple[int, list[int]]]:
    """Algorithm 2 with a set I that is gone through in order, and a threshold that is halved."""
    lacking, found = list(magnitudes), []
    while threshold:
        hits = []
        while members := [i for i, u in enumerate(lacking) if u >= threshold]:
            for i in members:
                lacking[i] -= threshold
            hits += members
        if hits:
            found.append((threshold, hits))
        threshold = -(-threshold // 2) if threshold > 1 else 0
    assert not any(lacking)
    return found


@pytest.mark.parametrize("count", [1, 7, 300])
@pytest.mark.parametrize("heavy", [1, 4])
def test_against_the_algorithm_step_by_step(count, heavy, monkeypatch):
    rng = np.random.default_rng(count)
    magnitudes, _ = normalised(rng.laplace(size=count) ** heavy)
    wanted = one_by_one(magnitudes.tolist(), first_threshold(magnitudes))
    monkeypatch.setattr("hwprune.codec.refining._BLOCK", 64)
    walks = [(w.threshold, w.hits, np.concatenate(list(w.blocks))) for w in refinements(magnitudes)]
    assert [(threshold, places.tolist()) for threshold, _, places in walks] == wanted
    assert all(len(places) == hits for _, hits, places in walks)
    assert not magnitudes.any()


def test_nobody_is_hit_twice_by_a_threshold():
    magnitudes = np.array([1, 2, 3, 1 << 30, (1 << 31) - 1], np.int32)
    for walk in refinements(magnitudes.copy()):
        places = np.concatenate(list(walk.blocks)).tolist()
        assert len(set(places)) == len(places) == walk.hits
    assert magnitudes.max() < 2 * first_threshold(magnitudes) <= 2 * int(magnitudes.max())


def test_units_are_parts_of_the_mean_and_never_too_many():
    values = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    magnitudes, unit = normalised(values)
    assert unit * ONE == pytest.approx(np.abs(values).mean(), rel=1e-6)
    assert magnitudes.mean() == pytest.approx(ONE, rel=1e-4)
    assert (magnitudes.astype(np.float32) * unit <= np.abs(values)).all()
    assert ((magnitudes + 1).astype(np.float32) * unit >= np.abs(values)).all()


@pytest.mark.parametrize("value", [0.0, 1e-45])
def test_what_is_too_small_for_a_unit_is_zero(value):
    magnitudes, unit = normalised(np.full(10, value, np.float32))
    assert unit == 0
    assert not magnitudes.any()
    assert list(refinements(magnitudes)) == []
