"""Steps for which every weight's effect on the outputs is alike, against effects by hand."""

import numpy as np
import onnx
import pytest

from hwprune.codec.allocation import distortion, relative_steps
from hwprune.codec.deadzone import quantize
from hwprune.codec.probe import Probe
from hwprune.testing.specimens import coded_weights, every_form

MODEL = every_form()
WEIGHTS = coded_weights(MODEL)
X = np.random.default_rng(3).normal(size=(16, 8, 6, 6)).astype(np.float32)


def test_without_a_probe_steps_are_alike_in_standard_deviations():
    found = relative_steps(WEIGHTS, None, {})
    for w in WEIGHTS:
        assert found[w.index] == pytest.approx(0.5 * w.values.std())


def test_effects_are_levelled():
    """s d^2 is the same for all, and the mean of log d over elements is that of the trial."""
    ticks = []
    probe = Probe(onnx.load_model_from_string(MODEL), WEIGHTS, (X,))
    found = relative_steps(WEIGHTS, probe, {}, lambda: ticks.append(1))
    assert len(ticks) == len(WEIGHTS)
    (truth,) = probe.outputs()
    levels, moved, elements = [], 0.0, 0
    for w in WEIGHTS:
        [trial] = quantize([w], {w.index: 0.5 * float(w.values.std())}, {})
        (other,) = probe.outputs({w.name: w.stored(trial.values)})
        error = np.square(truth.astype(np.float64) - other).mean() / truth.var(dtype=np.float64)
        levels.append(error / (trial.step**2 * w.values.size) * found[w.index] ** 2)
        moved += w.values.size * np.log(found[w.index] / (0.5 * w.values.std()))
        elements += w.values.size
    np.testing.assert_allclose(levels, levels[0], rtol=1e-3)
    assert abs(moved / elements) < 1e-5


def test_distortion_is_noise_over_signal_summed():
    rng = np.random.default_rng(0)
    truth = [rng.normal(size=(50, 4)), rng.normal(size=(50, 3)) * 9, np.arange(5)]
    found = [truth[0] + 0.1, truth[1] * 1.5, truth[2] + 1]  # whole numbers do not count
    wanted = 0.01 / truth[0].var() + np.square(truth[1] / 2).mean() / truth[1].var()
    assert distortion(truth, found) == pytest.approx(wanted)
    assert distortion(truth, truth) == 0
