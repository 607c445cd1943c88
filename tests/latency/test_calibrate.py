"""Calibration finds what whole runs cost beyond the rows, and nothing where there is nothing."""

import numpy as np
import pytest

from hwprune.backend import RUN, Kernel
from hwprune.latency.calibrate import Calibration, calibrate, weight_bytes
from hwprune.testing.kernels import conv, example


def plans(seed: int, count: int) -> list[list[tuple[Kernel, float]]]:
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        plan = [(RUN, 40_000.0)]
        for _ in range(int(rng.integers(20, 60))):
            precision = str(rng.choice(["fp32", "int8"]))
            kernel = conv(precision, (int(rng.integers(8, 64)), 32))
            plan.append((kernel, float(rng.uniform(5_000, 50_000))))
        found.append(plan)
    return found


def whole(plan, truth: Calibration) -> float:
    return sum(truth.price(k, ns) for k, ns in plan)


def test_what_is_missing_is_found():
    truth = Calibration({"fp32": 1.05, "int8": 0.93}, 700.0, 0.02)
    known, held_out = plans(0, 12), plans(1, 20)
    found = calibrate(known, [whole(p, truth) for p in known])
    errors = [whole(p, found) / whole(p, truth) - 1 for p in held_out]
    assert np.abs(errors).max() < 0.01
    assert found.spread < 0.01


def test_where_rows_say_all_nothing_is_changed():
    known = plans(2, 8)
    found = calibrate(known, [whole(p, Calibration()) for p in known])
    assert {"fp32", "int8"} < set(found.scale)
    assert all(scale == pytest.approx(1.0) for scale in found.scale.values())
    assert found.per_kernel_ns == pytest.approx(0.0, abs=1.0)


def test_one_plan_does_not_overrule_the_rows():
    (plan,) = plans(3, 1)
    found = calibrate([plan], [1.3 * whole(plan, Calibration())])
    assert whole(plan, found) == pytest.approx(1.3 * whole(plan, Calibration()), rel=0.05)
    assert all(0.7 < s < 1.4 for s in found.scale.values())


def test_moving_data_may_take_twice_as_long_as_alone():
    """Though it is a small share of every plan, and what computes is right."""
    rng = np.random.default_rng(5)
    moved = Kernel("QuantizeLinear", "int8", ((1, 16, 8, 8),), (1, 16, 8, 8))

    def with_boundaries(seed: int, count: int) -> list[list[tuple[Kernel, float]]]:
        return [p + [(moved, 4_000.0)] * int(rng.integers(0, 20)) for p in plans(seed, count)]

    truth = Calibration({"QuantizeLinear/int8//": 2.0})
    known, held_out = with_boundaries(5, 12), with_boundaries(6, 20)
    noise = 1 + 0.005 * rng.standard_normal(len(known))
    found = calibrate(known, [whole(p, truth) * n for p, n in zip(known, noise, strict=True)])
    errors = np.array([whole(p, found) / whole(p, truth) - 1 for p in held_out])
    alone = np.array([whole(p, Calibration()) / whole(p, truth) - 1 for p in held_out])
    assert np.abs(errors).max() < 0.02 < np.abs(alone).max() / 2
    scale = found.scale["int8"] * found.scale["QuantizeLinear/int8//"]
    assert 1.6 < scale < 2.4


def test_noise_is_told_as_spread():
    rng = np.random.default_rng(4)
    known = plans(4, 30)
    times = [whole(p, Calibration()) * (1 + 0.05 * rng.standard_normal()) for p in known]
    assert 0.02 < calibrate(known, times).spread < 0.09


def test_weights_are_counted_in_bytes_of_their_precision():
    assert weight_bytes(conv("fp32", (16, 8))) == 4 * weight_bytes(conv("int8", (16, 8)))
    assert weight_bytes(example("Add")) == 0
