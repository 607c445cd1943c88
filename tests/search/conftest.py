"""One small problem whose truth is other than the estimates say."""

import numpy as np
import pytest

from hwprune.search.decode import Decoder
from hwprune.testing.problems import budget_between, residual_chain

PROBLEM = (6, 6, 0)


@pytest.fixture(scope="package")
def problem():
    return residual_chain(*PROBLEM)


@pytest.fixture(scope="package")
def budget(problem):
    return budget_between(problem, Decoder(problem).fastest().latency_ns, 0.35)


@pytest.fixture(scope="package")
def hidden(problem):
    """Weights that the measured loss gives the layers."""
    rng = np.random.default_rng(5)
    return {k: float(rng.normal(0, 1.2)) for k in problem.knobs}
