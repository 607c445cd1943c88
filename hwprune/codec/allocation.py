"""How fine each weight's steps are, beside one another: reverse water-filling on measured error.

At high rate a weight with n elements and steps d adds s n d^2 to the error of the network's
outputs and takes n (h - log2 d) bits. For a given size the sum of errors is least where s d^2 is
the same for all weights (Cover and Thomas, section 10.3.3, with the error measured at the outputs
instead of at the weights). s is measured: one weight at a time is quantised, and the network run.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwprune.codec.deadzone import quantize
from hwprune.codec.probe import Probe
from hwprune.codec.weights import Weight
from hwprune.quantize.gptq import Inverse

Array = NDArray[Any]
_TRIAL = 0.5  # of a weight's standard deviation: the step at which its effect is measured
_LEAST = 1e-9  # of the mean effect: a weight without any effect counts as much


def relative_steps(
    weights: Sequence[Weight],
    probe: Probe | None,
    known: Mapping[int, Inverse],
    tick: Callable[[], None] = lambda: None,
) -> dict[int, float]:
    """A step for each weight (by its index); their common factor decides the rate.

    At factor 1 the geometric mean over all elements is half a standard deviation. Without a probe
    all steps are alike in standard deviations.

    Args:
        weights: What is coded.
        probe: Runs the model.
        known: Of what weights are multiplied with, where it is known.
        tick: Called after each weight.
    """
    trial = {w.index: max(_TRIAL * float(w.values.std()), 1e-12) for w in weights}
    if probe is None:
        return trial
    truth = probe.outputs()
    effects = {}
    for found in quantize(weights, trial, known):
        w = found.weight
        moved = probe.outputs({w.name: w.stored(found.values)})
        effects[w.index] = distortion(truth, moved) / (found.step**2 * w.values.size)
        tick()
    return _levelled(weights, trial, effects)


def distortion(truth: Sequence[Array], found: Sequence[Array]) -> float:
    """Mean square error of the outputs, each as a share of its own variance, summed."""
    total = 0.0
    for a, b in zip(truth, found, strict=True):
        if a.dtype.kind == "f":
            wide = a.astype(np.float64)
            total += float(np.square(wide - b).mean() / (wide.var() + 1e-30))
    return total


def _levelled(
    weights: Sequence[Weight], trial: Mapping[int, float], effects: Mapping[int, float]
) -> dict[int, float]:
    """Steps whose effects are alike."""
    least = _LEAST * max(float(np.mean(list(effects.values()))), 1e-30)
    steps = {w.index: max(effects[w.index], least) ** -0.5 for w in weights}
    sizes = np.array([w.values.size for w in weights], np.float64)
    ratios = np.log([trial[w.index] / steps[w.index] for w in weights])
    common = float(np.exp((ratios * sizes).sum() / sizes.sum()))
    return {index: common * step for index, step in steps.items()}
