"""Prediction of a kernel's places: all of it comes back, and smooth kernels take fewer bits."""

import lzma

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from hwprune.codec.decoder import DecodeError, decode
from hwprune.codec.decoder.prediction import (
    MIDDLE,
    MOST_PLACES,
    ONE,
    coefficients,
    restored,
    restored_integers,
)
from hwprune.codec.packing import pack_exact
from hwprune.codec.prediction import predictor, rest, rest_of_integers, written

RHO = 0.8


def smooth(shape, rho=RHO, seed=0):
    """Kernels of which each place is rho times the one before, and something new; loud and quiet
    ones."""
    rng = np.random.default_rng(seed)
    found = rng.normal(size=shape)
    for place in range(1, shape[2]):
        found[:, :, place] = rho * found[:, :, place - 1] + (1 - rho**2) ** 0.5 * found[:, :, place]
    found *= np.exp(rng.normal(size=(shape[0], 1, 1)))
    return found.astype(np.float32)


def lower(places, seed):
    rng = np.random.default_rng(seed)
    return np.tril(rng.integers(-MIDDLE, MIDDLE + 1, (places, places)), -1)


@given(st.integers(2, 12), st.integers(0, 100))
def test_coefficients_come_back(places, seed):
    found = lower(places, seed)
    np.testing.assert_array_equal(coefficients(written(found)), found)


@given(st.integers(2, 12), st.integers(1, 5), st.integers(1, 5), st.integers(0, 100))
def test_integers_come_back(places, rows, columns, seed):
    values = np.random.default_rng(seed).integers(-128, 128, (rows, columns, places), np.int32)
    foretold = np.clip(lower(places, seed), -3, 3)
    left = rest_of_integers(values, foretold)
    np.testing.assert_array_equal(restored_integers(left, foretold), values)


def test_reals_come_back_but_for_rounding():
    values = smooth((20, 10, 9))
    foretold = predictor(values)
    np.testing.assert_allclose(
        restored(rest(values, foretold), foretold), values, rtol=0, atol=1e-4
    )


def test_each_place_is_its_rest_and_what_it_takes():
    foretold = np.array([[0, 0, 0], [8, 0, 0], [-4, 16, 0]])
    left = np.array([[[1.0, 2.0, 3.0]]], np.float32)
    assert restored(left, foretold).tolist() == [[[1.0, 2.5, 3.0 - 0.25 + 2.5]]]
    whole = np.array(
        [[[5, 2, 3]]], np.int32
    )  # 2 + (8 * 5 + 8 >> 4), 3 + (-4 * 5 + 16 * 5 + 8 >> 4)
    assert restored_integers(whole, foretold).tolist() == [[[5, 5, 7]]]


def test_smooth_kernels_are_foretold_by_the_place_before():
    found = predictor(smooth((100, 80, 5))) / ONE
    for place in range(1, 5):
        assert found[place, place - 1] == pytest.approx(RHO, abs=0.07)
        assert np.abs(found[place, : place - 1]).max(initial=0) < 0.1


def test_the_less_is_known_of_places_the_less_is_taken_from_them():
    values = smooth((100, 80, 5))
    power = float(np.square(values).mean())
    sums = [np.abs(predictor(values, share * power)).sum() for share in (0.0, 0.1, 0.5)]
    assert sums[0] > sums[1] > sums[2]


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).normal(size=(60, 40, 9)),
        smooth((60, 40, 1)),
        smooth((2, 2, 9)),
        smooth((4, 4, MOST_PLACES + 1)),
        np.zeros((60, 40, 9)),
        smooth((60, 40, 9)) * (np.random.default_rng(1).random((60, 40, 9)) < 0.5),
    ],
    ids=["noise", "one place", "few kernels", "many places", "nothing", "sparse"],
)
def test_what_is_not_worth_it(values):
    assert predictor(values.astype(np.float32)) is None


@pytest.mark.filterwarnings("error")
def test_a_place_that_is_always_zero():
    values = smooth((60, 40, 9))
    values[:, :, 4] = 0
    foretold = predictor(values)
    assert not foretold[4].any()
    assert not foretold[:, 4].any()
    assert foretold[8, 7] > 0


@pytest.mark.parametrize("text", ["", "WW", "W" * 5, "\x00", "W" * (65 * 32)])
def test_coefficients_that_cannot_be(text):
    with pytest.raises(DecodeError):
        coefficients(text)


def test_kernels_of_another_size_are_refused():
    for function, kind in ((restored, np.float32), (restored_integers, np.int32)):
        with pytest.raises(DecodeError, match="places"):
            function(np.zeros((2, 2, 4), kind), lower(3, 0))


def test_smooth_integers_are_shorter_than_by_lzma():
    real = smooth((64, 64, 9))
    scale = np.abs(real).max((1, 2), keepdims=True) / 127
    weight = numpy_helper.from_array(np.rint(real / scale).astype(np.int8), "w")
    flat = weight.raw_data
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("x", "y"))
    node = helper.make_node("Identity", ["x"], ["y"])
    graph = helper.make_graph([node], "g", [x], [y], [weight])
    model = helper.make_model(graph).SerializeToString()
    file = pack_exact(model).file
    assert decode(file).model == model
    assert len(file) < len(lzma.compress(flat, preset=9 | lzma.PRESET_EXTREME))
    shares = np.bincount(np.frombuffer(flat, np.uint8)) / len(flat)
    entropy = -(shares[shares > 0] * np.log2(shares[shares > 0])).sum() * len(flat) / 8
    assert len(file) < 0.95 * entropy
    assert onnx.load_model_from_string(decode(file).model).graph.initializer[0].name == "w"
