import numpy as np
import pytest

from hwprune.pruning.calibrate import alone, half, rescaled, together
from hwprune.pruning.ranking import Ranking


def test_half_is_what_the_criterion_removes_last():
    ranking = Ranking(np.array([3, 0, 4, 1, 2]), np.array([0.0, 1, 2, 3, 4]))
    assert half(ranking) == (1, 2, 4)


def test_half_the_channels_cost_what_was_measured():
    order, error = np.array([3, 0, 2, 1]), np.array([0.0, 0.1, 0.4, 2.0])
    after = rescaled({"g": Ranking(order, error)}, {("g",): 1.2})["g"]
    assert after.error == pytest.approx([0, 0.3, 1.2, 6])
    assert np.array_equal(after.order, order)


def test_a_curve_of_zeros_stays():
    flat = Ranking(np.array([1, 0]), np.zeros(2))
    assert np.array_equal(rescaled({"g": flat}, {("g",): 1.0})["g"].error, flat.error)


def test_groups_halved_together_keep_their_shares_and_say_what_they_lost():
    order = np.arange(4)
    curves = {g: Ranking(order, k * np.arange(5.0)) for g, k in (("a", 1.0), ("b", 3.0))}
    assert alone(curves) == [("a",), ("b",)]
    [probe] = together(curves)
    after = rescaled(curves, {probe: 2.0})
    assert after["a"].error[2] + after["b"].error[2] == pytest.approx(2.0)
    assert after["b"].error[2] == pytest.approx(3 * after["a"].error[2])
