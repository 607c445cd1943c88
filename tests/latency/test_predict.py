"""Predictions by the thousand are those of the tables, and have their intervals."""

import numpy as np
import pytest
from hwprune.backends.null import NullBackend
from hwprune.backends.null.rules import kernel_ns

import hwprune.latency
from hwprune.graph.coupling import couple
from hwprune.latency.calibrate import Calibration
from hwprune.latency.estimator import Estimator
from hwprune.latency.kernels import KernelGraph
from hwprune.latency.predict import Predictor
from hwprune.latency.space import build_space
from hwprune.plan import Plan
from hwprune.testing.networks import build, plain, residual


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    graph = build(plain, residual, stem=16)
    network = KernelGraph(graph, couple(graph), NullBackend().capabilities())
    estimator = Estimator(network, build_space(network, 4, 16))
    estimator.load({k: kernel_ns(k) for k in estimator.wanted()})
    return Predictor(estimator, Calibration({"fp32": 1.1}, 50.0, spread=0.02))


def test_the_whole_network_is_the_same_either_way(predictor):
    one = hwprune.latency.estimate(Plan(), predictor)
    (many,) = predictor.estimate_many(predictor.options([{}]))
    assert many[1] == pytest.approx(one.us)
    assert one.low < many[0] < one.us < many[2] < one.high
    assert one.high - one.us > 2 * 0.02 * one.us


def test_many_plans_are_the_sums_of_the_factors(predictor):
    rng = np.random.default_rng(0)
    sizes = predictor.estimator.space.sizes
    chosen = [{v: int(rng.integers(n)) for v, n in sizes.items()} for _ in range(50)]
    found = predictor.estimate_many(predictor.options(chosen))
    factors = predictor.estimator.factors(predictor.calibration)
    sums = [sum(f.table[tuple(a[v] for v in f.scope)] for f in factors) for a in chosen]
    assert found[:, 1] == pytest.approx(np.array(sums) / 1000)
    assert np.all(found[:, 0] < found[:, 1])
    assert np.all(found[:, 1] < found[:, 2])
