"""Random problems with everything real ones have: staircases, streams, branches and kernels."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest

from hwprune.search.problem import Factor, Problem, Variable

MakeProblem = Callable[..., Problem]


@pytest.fixture(scope="session")
def make_problem() -> MakeProblem:
    return network_problem


@pytest.fixture(scope="session")
def brute_force() -> Callable[[Problem, float], float]:
    return least_loss


def network_problem(
    layers: int, options: int, seed: int, kernels: bool = True, branches: bool = True
) -> Problem:
    """A residual chain: layer i maps width i-1 to width i, all read the one stream."""
    rng = np.random.default_rng(seed)
    widths = [Variable(f"width:{i}", options) for i in range(layers)]
    variables = [*widths, Variable("width:stream", options)]
    latency: list[Factor] = []
    loss: list[Factor] = []
    for i in range(layers):
        own = f"width:{i}"
        before = f"width:{i - 1}" if i and rng.random() < 0.6 else "width:stream"
        scope = [before, own]
        table = staircase(options, options, rng)
        gate = None
        if branches and i % 2:
            gate = Variable(f"branch:{i}", 2)
            variables.append(gate)
            scope.append(gate.name)
            table = np.stack([np.zeros_like(table), table], axis=-1)
            loss.append(Factor((gate.name,), np.array([rng.gamma(2.0), 0.0]), own))
        if kernels:
            kernel = Variable(f"kernel:{i}", 2)
            variables.append(kernel)
            scope.append(kernel.name)
            ratio = rng.uniform(0.3, 1.3)
            table = np.stack([table, table * ratio], axis=-1)
            loss.append(Factor((kernel.name,), np.array([0.0, rng.gamma(1.0) * 0.1]), kernel.name))
            if i:  # changing the precision between layers costs time
                switch = np.array([[0.0, 40.0], [60.0, 0.0]])
                latency.append(Factor((f"kernel:{i - 1}", kernel.name), switch))
        latency.append(Factor(tuple(scope), table))
        harm = np.sort(rng.gamma(1.0, size=options))[::-1].cumsum()[::-1]
        harm = (harm - harm[-1]) * rng.lognormal()
        if gate:
            loss.append(Factor((own, gate.name), np.stack([0 * harm, harm], axis=-1), own))
        else:
            loss.append(Factor((own,), harm, own))
    stream = np.sort(rng.gamma(1.0, size=options))[::-1]
    loss.append(Factor(("width:stream",), (stream - stream[-1]) * layers / 3, "width:stream"))
    return Problem(tuple(variables), tuple(latency), tuple(loss), 50.0)


def staircase(before: int, after: int, rng: np.random.Generator) -> np.ndarray:
    """Nanoseconds over producer and consumer width; plateaus of two options."""
    i, j = np.indices((before, after))
    steps = (1 + i // 2) * (1 + j // 2) if rng.random() < 0.7 else (1 + i) * (1 + j)
    return np.asarray(10.0 * steps * rng.lognormal() + 30.0)


def least_loss(problem: Problem, budget_ns: float) -> float:
    """The optimum by looking at every assignment."""
    names = [v.name for v in problem.variables]
    best = np.inf
    for options in product(*(range(v.size) for v in problem.variables)):
        assignment = dict(zip(names, options, strict=True))
        if problem.latency_ns(assignment) <= budget_ns:
            best = min(best, problem.estimated_loss(assignment))
    return best
