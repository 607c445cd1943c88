"""Steps with a dead zone: coarser files are shorter, and outputs suffer less than by rounding."""

import numpy as np
import pytest
import torch
from onnx import helper

from hwprune.codec.arrays import Symbols, encode_arrays
from hwprune.codec.deadzone import quantize
from hwprune.codec.decoder import decode
from hwprune.codec.decoder.forms import points
from hwprune.codec.dials import DeadZone
from hwprune.codec.skeleton import holes
from hwprune.codec.weights import Weight
from hwprune.quantize.gptq import inverse
from hwprune.testing.specimens import coded_weights, every_form

ROWS, COLUMNS = 96, 64
STEPS = (0.02, 0.1, 0.3, 0.6, 1.2)


def product(scale=1.0, rows=ROWS):
    """A Gemm whose columns read inputs that hang together, and E[x x'] of these."""
    rng = np.random.default_rng(0)
    values = rng.laplace(0, 1, (rows, COLUMNS, 1)).astype(np.float32) * np.float32(scale)
    mixed = rng.normal(size=(COLUMNS, COLUMNS)) * np.exp(rng.normal(size=COLUMNS))
    moment = mixed @ mixed.T / COLUMNS + 0.05 * np.eye(COLUMNS)
    node = helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)
    weight = Weight(0, "w", "float32", (rows, COLUMNS), values, node, "x", None)
    return weight, moment


def known(moment):
    return inverse(torch.from_numpy(moment[None].astype(np.float32)))


def size(numbers):
    return len(encode_arrays([Symbols(numbers.astype(np.int32), "steps")]))


def harm(weight, values, moment):
    """tr(E H E') by hand."""
    errors = (values - weight.values)[:, :, 0].astype(np.float64)
    return float(np.einsum("ri,ij,rj->", errors, moment, errors))


@pytest.mark.parametrize("guided", [False, True])
def test_larger_steps_take_fewer_bytes_and_do_more_harm(guided):
    weight, moment = product()
    found = [quantize(weight, step, known(moment) if guided else None) for step in STEPS]
    sizes = [size(q.numbers) for q in found]
    harms = [harm(weight, q.values, moment) for q in found]
    assert sizes == sorted(sizes, reverse=True)
    assert harms == sorted(harms)
    assert sizes[-1] < 0.3 * sizes[0]


def test_no_weight_is_further_off_than_a_step():
    weight, _ = product()
    for step in STEPS:
        found = quantize(weight, step)
        assert np.abs(found.values - weight.values).max() < 1.01 * found.step


def rounded(weight, step, at_least):
    """Plain rounding by the largest step that takes so many bytes."""
    while size(np.rint(weight.values / step)) < at_least:
        step *= 0.98
    while size(np.rint(weight.values / (step * 1.02))) >= at_least:
        step *= 1.02
    return np.rint(weight.values / step) * np.float32(step)


@pytest.mark.parametrize(("step", "share"), [(0.3, 1.01), (0.8, 0.98), (1.5, 0.93), (2.5, 0.88)])
def test_the_dead_zone_is_better_than_rounding_at_equal_bytes(step, share):
    weight, _ = product(rows=1000)
    found = quantize(weight, step)
    plain = rounded(weight, step, size(found.numbers))
    error, other = (np.square(v - weight.values).mean() for v in (found.values, plain))
    assert error < share * other


@pytest.mark.parametrize("step", [0.1, 0.3, 0.8])
def test_outputs_suffer_less_where_inputs_are_known(step):
    """Oracle: tr(E H E') of plain rounding that takes no fewer bytes."""
    weight, moment = product()
    found = quantize(weight, step, known(moment))
    plain = rounded(weight, step, size(found.numbers))
    assert harm(weight, found.values, moment) < 0.6 * harm(weight, plain, moment)
    unguided = quantize(weight, step)
    assert harm(weight, found.values, moment) < harm(weight, unguided.values, moment)


def test_shifts_are_mean_shortfalls():
    weight, _ = product()
    found = quantize(weight, 0.7)
    for shift, where in zip(found.shifts, (1, 2), strict=True):
        away = np.abs(found.numbers)
        chosen = away == 1 if where == 1 else away > 1
        short = away[chosen] * np.float32(found.step) - np.abs(weight.values[chosen])
        assert shift == pytest.approx(short.mean(), rel=1e-3, abs=1e-5)
        means = np.abs(found.values[chosen]).mean(), np.abs(weight.values[chosen]).mean()
        assert means[0] == pytest.approx(means[1], rel=1e-3)


def test_points_are_step_times_number_less_a_shift():
    k = np.array([[[-3, -1, 0, 1, 2, 5]]], np.int32)
    wanted = [-(3 * 0.5 - 0.25), -(0.5 - 0.125), 0, 0.5 - 0.125, 1 - 0.25, 2.5 - 0.25]
    np.testing.assert_array_equal(points(k, 0.5, [0.125, 0.25]).ravel(), np.float32(wanted))


@pytest.mark.parametrize("values", [0.0, 1e-38, 1e30])
def test_weights_of_any_size(values):
    weight, _ = product(scale=values)
    found = quantize(weight, 1e-40)
    assert np.isfinite(found.values).all()
    assert np.abs(found.numbers).max() <= 1 << 15
    np.testing.assert_allclose(found.values, weight.values, atol=float(found.step))


@pytest.mark.parametrize("guided", [False, True])
def test_what_is_decoded_is_what_was_chosen(guided):
    model = every_form()
    found, chosen = coded_weights(model), {}
    rng = np.random.default_rng(0)
    for w in found:
        if guided and w.reader.op_type == "MatMul":
            rows = rng.normal(size=(200, w.shape[0])).astype(np.float32)
            chosen[w.index] = inverse(torch.from_numpy((rows.T @ rows)[None] / 200))
    steps = {w.index: float(w.values.std()) / 4 for w in found}
    packed = DeadZone(model, found, steps, chosen).at(7 / 11)  # a factor of 1
    decoded = decode(packed.file)
    assert (decoded.codec, decoded.complete) == ("deadzone", True)
    places = holes(decoded.model)
    for w in found:
        own = places[w.index].read(decoded.model)
        wanted = quantize(w, steps[w.index], chosen.get(w.index)).values
        np.testing.assert_array_equal(own, w.stored(wanted))
    for hole in places:
        if hole.name not in {w.name for w in found}:
            assert decoded.model[hole.start : hole.stop] == model[hole.start : hole.stop]


def test_the_dial_goes_from_fine_to_coarse():
    model = every_form()
    found = coded_weights(model)
    dial = DeadZone(model, found, {w.index: float(w.values.std()) / 2 for w in found})
    sizes = [len(dial.at(coarseness).file) for coarseness in (0, 0.25, 0.5, 0.75, 1)]
    assert sizes == sorted(sizes, reverse=True)
    errors = []
    for coarseness in (0, 1):
        decoded = dial.at(coarseness).model
        hole = holes(decoded)[found[0].index]
        errors.append(np.abs(hole.read(decoded).reshape(-1) - found[0].values.reshape(-1)).max())
    assert errors[0] < 0.01 * found[0].values.std()
    assert errors[1] > found[0].values.std()
