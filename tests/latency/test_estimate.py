"""The factors of the decoder add up to what the kernels of a configuration cost."""

import numpy as np
import pytest
from hwprune.latency.interpolate import price_family, select

from hwprune.backend import Kernel
from hwprune.graph.coupling import couple
from hwprune.latency.calibrate import Calibration
from hwprune.latency.estimate import Estimator
from hwprune.latency.kernels import KernelGraph
from hwprune.latency.space import build_space
from hwprune.latency.steps import find_step
from hwprune.testing.networks import build, dense, option_a, plain, residual, separable


def price(kernel: Kernel) -> float:
    """Any function of the signature will do."""
    shapes = (*kernel.inputs, kernel.output)
    work = sum(float(np.prod(s)) for s in shapes) * (0.4 if kernel.precision == "int8" else 1.0)
    return 50.0 + work + 13.0 * len(kernel.fused)


@pytest.mark.parametrize(
    "blocks", [(plain, residual), (residual, option_a), (separable, dense), (dense,) * 6]
)
@pytest.mark.parametrize("seed", range(3))
def test_factors_sum_to_the_latency_of_any_assignment(blocks, seed, capabilities):
    graph = build(*blocks)
    network = KernelGraph(graph, couple(graph), capabilities)
    space = build_space(network, 2, 2)
    estimator = Estimator(network, space, block=1)
    estimator.load(price)
    calibration = Calibration({"fp32": 7.0, "int8": 3.0}, 1.3)
    rng = np.random.default_rng(seed)
    assignment = {v: int(rng.integers(n)) for v, n in space.sizes.items()}
    total = sum(
        f.table[tuple(assignment[v] for v in f.scope)] for f in estimator.factors(calibration)
    )
    expected = estimator.latency_ns(space.configuration(assignment), calibration)
    assert total == pytest.approx(expected, rel=1e-9)
    by_layer = estimator.layer_ns(space.configuration(assignment), calibration)
    assert sum(by_layer.values()) == pytest.approx(expected, rel=1e-9)


def test_few_rows_price_a_bilinear_family_exactly():
    family = [
        Kernel("Conv", "int8", ((1, i, 8, 8), (o, i, 3, 3)), (1, o, 8, 8))
        for i in range(4, 68, 4)
        for o in range(4, 68, 4)
    ]

    def bilinear(kernel: Kernel) -> float:
        i, o = kernel.inputs[0][1], kernel.output[1]
        return 900.0 + 3 * i + 5 * o + 0.7 * i * o

    measured = set(select(family))
    assert len(measured) == 16
    prices = price_family(family, lambda k: bilinear(k) if k in measured else None)
    for kernel in family:
        assert prices[kernel] == pytest.approx(bilinear(kernel), rel=1e-9)


def test_fp32_counts_within_a_block_share_one_price():
    family = [
        Kernel("Conv", "fp32", ((1, 32, 8, 8), (o, 32, 3, 3)), (1, o, 8, 8))
        for o in range(4, 68, 4)
    ]

    def staircase(kernel: Kernel) -> float:
        return 100.0 * -(-kernel.output[1] // 16)

    measured = set(select(family, block=16))
    prices = price_family(family, lambda k: staircase(k) if k in measured else None, block=16)
    assert all(prices[k] == pytest.approx(staircase(k)) for k in family)


@pytest.mark.parametrize(
    ("cost", "step"),
    [
        (lambda c: -(-c // 16), 16),
        (lambda c: -(-c // 8), 8),
        (lambda c: c * (1.0 if c % 4 == 0 else 1.5), 4),
        (lambda c: 10.0 + c, 1),
        (lambda c: 5.0, 1),
    ],
)
def test_steps_are_found_in_noisy_sweeps(cost, step):
    rng = np.random.default_rng(0)
    times = {c: cost(c) * (1 + 0.005 * rng.standard_normal()) for c in range(1, 34)}
    assert find_step(times) == step
