"""The factors of the decoder add up to what the kernels of a configuration cost."""

from dataclasses import replace

import numpy as np
import pytest

from hwprune.backend import RUN, Kernel, Layouts
from hwprune.graph.coupling import couple
from hwprune.latency.calibrate import Calibration
from hwprune.latency.estimator import Estimator
from hwprune.latency.kernels import KernelGraph
from hwprune.latency.space import build_space
from hwprune.latency.steps import find_step
from hwprune.plan import Configuration
from hwprune.testing.networks import build, dense, option_a, plain, residual, separable


def price(kernel: Kernel) -> float:
    """Any function of the signature will do."""
    shapes = (*kernel.inputs, kernel.output)
    work = sum(float(np.prod(s)) for s in shapes) * (0.4 if kernel.precision == "int8" else 1.0)
    return 50.0 + work + 13.0 * len(kernel.fused)


def loaded(network: KernelGraph, step: int = 2) -> Estimator:
    """An estimator with every row it wants, priced by `price`."""
    estimator = Estimator(network, build_space(network, step, step))
    estimator.load({k: price(k) for k in estimator.wanted()})
    return estimator


@pytest.mark.parametrize(
    "blocks", [(plain, residual), (residual, option_a), (separable, dense), (dense,) * 6]
)
@pytest.mark.parametrize("seed", range(3))
def test_factors_sum_to_the_kernels_of_any_assignment(blocks, seed, capabilities):
    graph = build(*blocks)
    network = KernelGraph(graph, couple(graph), capabilities)
    estimator = loaded(network)
    space = estimator.space
    calibration = Calibration({"fp32": 1.1, "int8": 0.9}, 7.0, 0.01, 1.3)
    rng = np.random.default_rng(seed)
    assignment = {v: int(rng.integers(n)) for v, n in space.sizes.items()}
    total = sum(
        f.table[tuple(assignment[v] for v in f.scope)] for f in estimator.factors(calibration)
    )
    c = space.configuration(assignment)
    told = [network.step_kernels(s, c.widths, c.dropped, c.kernels) for s in network.steps]
    told += [network.link_kernels(e, c.widths, c.dropped, c.kernels) for e in network.links]
    priced = dict(zip(estimator.wanted(), map(price, estimator.wanted()), strict=True))
    run = [RUN, *(k for kernels in told for k in kernels)]
    expected = sum(calibration.price(k, priced.get(k) or estimator.row_ns(k)) for k in run)
    assert total == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("blocks", [(plain, residual), (residual, option_a), (separable, dense)])
def test_layers_sum_to_the_latency(blocks, capabilities):
    graph = build(*blocks)
    network = KernelGraph(graph, couple(graph), replace(capabilities, layouts=Layouts()))
    estimator = loaded(network)
    c, calibration = Configuration(), Calibration({"fp32": 1.1}, 7.0)
    by_layer = estimator.layer_ns(c, calibration)
    call = calibration.price(RUN, price(RUN))
    whole = estimator.latency_ns(c, calibration)
    assert sum(by_layer.values()) + call == pytest.approx(whole, rel=1e-9)
    full = {v: n - 1 for v, n in estimator.space.sizes.items() if not v.startswith("kernel:")}
    fp32 = full | {f"kernel:{n}": 0 for n in estimator.space.kernels}
    factors = estimator.factors(calibration)
    assert sum(f.table[tuple(fp32[v] for v in f.scope)] for f in factors) == pytest.approx(whole)


@pytest.mark.parametrize("seed", range(3))
def test_widths_that_are_not_offered_are_priced_by_their_family(seed, capabilities):
    graph = build(plain, residual, stem=24)
    network = KernelGraph(graph, couple(graph), capabilities)
    estimator = loaded(network, 4)
    rng = np.random.default_rng(seed)
    widths = {g.name: int(rng.integers(2, g.width + 1)) for g in network.coupling.prunable}
    c = Configuration(widths)
    known = set(network.kernels(c.widths, c.dropped, c.kernels))
    if not estimator.unknown(c):
        found = estimator.estimate(c, Calibration())
        exact = sum(price(k) for k in network.kernels(c.widths, c.dropped, c.kernels))
        assert known - set(estimator.wanted())
        assert found.ns == pytest.approx(exact, rel=0.1)
        low, high = found.interval(3.0)
        assert low <= exact <= high


def test_a_kernel_unlike_any_other_is_named_and_not_guessed(capabilities):
    graph = build(plain)
    network = KernelGraph(graph, couple(graph), capabilities)
    estimator = Estimator(network, build_space(network, 4, 4, precisions=False))
    estimator.load({k: price(k) for k in estimator.wanted()})
    conv = next(s.node for s in network.steps if s.op == "Conv")
    quantised = Configuration(kernels={conv: "int8"})
    missing = estimator.unknown(quantised)
    assert {k.precision for k in missing} == {"int8"}
    with pytest.raises(KeyError, match="int8"):
        estimator.estimate(quantised, Calibration())
    estimator.add_rows({k: price(k) for k in missing})
    assert estimator.estimate(quantised, Calibration()).ns > 0


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
