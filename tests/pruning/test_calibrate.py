import numpy as np
import pytest

from hwprune.pruning.calibrate import half, rescaled
from hwprune.pruning.criteria import Ranking


def test_half_is_what_the_criterion_removes_last():
    ranking = Ranking(np.array([3, 0, 4, 1, 2]), np.array([0.0, 1, 2, 3, 4]))
    assert half(ranking) == (1, 2, 4)


def test_half_the_channels_cost_what_was_measured():
    order, error = np.array([3, 0, 2, 1]), np.array([0.0, 0.1, 0.4, 2.0])
    after = rescaled({"g": Ranking(order, error)}, {"g": 1.2})["g"]
    assert after.error == pytest.approx([0, 0.3, 1.2, 6])
    assert np.array_equal(after.order, order)


def test_a_curve_of_zeros_stays():
    flat = Ranking(np.array([1, 0]), np.zeros(2))
    assert np.array_equal(rescaled({"g": flat}, {"g": 1.0})["g"].error, flat.error)
