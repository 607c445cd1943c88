"""Random search problems with everything real ones have, and two oracles for their optimum."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from math import inf

import numpy as np
from numpy.typing import NDArray

from hwprune.search.problem import Bound, Factor, Problem, Variable

_STREAM = "width:stream"
_SWITCH_NS = np.array([[0.0, 40.0], [60.0, 0.0]])  # changing the precision between two layers


def residual_chain(
    layers: int, options: int, seed: int, kernels: bool = True, branches: bool = True
) -> Problem:
    """A chain of layers that read either the layer before or the one residual stream.

    Latencies are staircases over producer and consumer width, scaled by the kernel, and nothing
    where the layer's branch is dropped; losses grow with what is cut, sizes with what is kept.
    """
    rng = np.random.default_rng(seed)
    variables = [Variable(_STREAM, options)]
    latency: list[Factor] = []
    size: list[Factor] = []
    loss: list[Factor] = [Factor((_STREAM,), _harm(options, rng) * layers / 3, _STREAM)]
    for i in range(layers):
        own = f"width:{i}"
        before = f"width:{i - 1}" if i and rng.random() < 0.6 else _STREAM
        variables.append(Variable(own, options))
        scope, table = [before, own], staircase(options, options, rng)
        kept = np.arange(1.0, options + 1)
        weights: NDArray[np.float64] = np.asarray(4 * np.outer(kept, kept), np.float64)
        harm_scope, harm = [own], _harm(options, rng)
        if branches and i % 2:
            gate = f"branch:{i}"
            variables.append(Variable(gate, 2))
            scope, table = [*scope, gate], np.stack([0 * table, table], -1)
            weights = np.stack([0 * weights, weights], -1)
            harm_scope, harm = [*harm_scope, gate], np.stack([0 * harm, harm], -1)
            loss.append(Factor((gate,), np.array([rng.gamma(2.0), 0.0]), own))
        if kernels:
            kernel = f"kernel:{i}"
            variables.append(Variable(kernel, 2))
            scope, table = [*scope, kernel], np.stack([table, table * rng.uniform(0.3, 1.3)], -1)
            weights = np.stack([weights, weights / 4], -1)
            loss.append(Factor((kernel,), np.array([0.0, 0.1 * rng.gamma(1.0)]), kernel))
            if i:
                latency.append(Factor((f"kernel:{i - 1}", kernel), _SWITCH_NS))
        latency.append(Factor(tuple(scope), table))
        size.append(Factor(tuple(scope), weights))
        loss.append(Factor(tuple(harm_scope), harm, own))
    file = Bound("the file", tuple(size), 10.0, inf)
    return Problem(tuple(variables), tuple(latency), tuple(loss), 50.0, (file,))


def bounded(problem: Problem, *most: float) -> Problem:
    """The same with other bounds, in the order of its own."""
    pairs = zip(problem.bounds, most, strict=True)
    return replace(problem, bounds=tuple(bound.at_most(m) for bound, m in pairs))


def staircase(before: int, after: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Nanoseconds over producer and consumer width, mostly with plateaus of two options."""
    i, j = np.indices((before, after))
    step = 2 if rng.random() < 0.7 else 1
    work = (1 + i // step) * (1 + j // step) * step**2
    return np.asarray(30.0 + 5.0 * rng.lognormal() * work, np.float64)


def budget_between(problem: Problem, fastest_ns: float, share: float) -> float:
    """A budget at `share` of the way from the fastest to the untouched network."""
    full = problem.latency_ns({v.name: v.neutral for v in problem.variables})
    return fastest_ns + share * (full - fastest_ns)


def least_loss(problem: Problem, budget_ns: float) -> float:
    """The optimum, by looking at every assignment (infinite if none meets the bounds)."""
    best = inf
    for options in product(*(range(v.size) for v in problem.variables)):
        assignment = {v.name: o for v, o in zip(problem.variables, options, strict=True)}
        fits = problem.latency_ns(assignment) <= budget_ns
        if fits and problem.keeps_bounds(assignment):
            best = min(best, problem.estimated_loss(assignment))
    return best


def milp_bound(problem: Problem, budget_ns: float, seconds: float = 60.0) -> tuple[float, float]:
    """Optimum and lower bound by HiGHS: one 0/1 column per option and per entry of every table."""
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import coo_array

    sizes = problem.sizes
    first = dict(zip(sizes, np.cumsum([0, *sizes.values()]).tolist(), strict=False))
    columns = sum(sizes.values())
    cost, time = [np.zeros(columns)], [np.zeros(columns)]
    right = [1.0] * len(sizes)  # what every row of `entries` (row, column, factor) sums to
    entries = [(r, first[v] + o, 1.0) for r, v in enumerate(sizes) for o in range(sizes[v])]
    terms = [(f, True) for f in problem.loss] + [(f, False) for f in problem.latency]
    for factor, is_loss in terms:
        cost.append(factor.table.ravel() * is_loss)
        time.append(factor.table.ravel() * (not is_loss))
        options = np.indices(factor.table.shape).reshape(len(factor.scope), -1)
        for name, chosen in zip(factor.scope, options, strict=True):
            row = len(right)
            entries += [(row + o, columns + e, 1.0) for e, o in enumerate(chosen.tolist())]
            entries += [(row + o, first[name] + o, -1.0) for o in range(sizes[name])]
            right += [0.0] * sizes[name]
        columns += factor.table.size
    rows, where, values = _columns(entries)
    sums = coo_array((values, (rows, where)), shape=(len(right), columns)).tocsr()
    room = (budget_ns - problem.constant_ns) * (1 + 1e-12)
    found = milp(
        np.concatenate(cost),
        integrality=(np.arange(columns) < sum(sizes.values())).astype(int),
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(sums, right, right),
            LinearConstraint(np.concatenate(time)[None], -np.inf, room),
        ],
        options={"time_limit": seconds, "mip_rel_gap": 1e-6},
    )
    return (inf if found.x is None else float(found.fun)), float(found.mip_dual_bound)


def _harm(options: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Loss per width, convex: nothing at full width, the most at the narrowest."""
    steps = np.sort(rng.gamma(1.0, size=options - 1))[::-1]
    return np.asarray(rng.lognormal() * np.append(steps[::-1].cumsum()[::-1], 0.0), np.float64)


def _columns(
    entries: Sequence[tuple[int, int, float]],
) -> tuple[list[int], list[int], list[float]]:
    return [e[0] for e in entries], [e[1] for e in entries], [e[2] for e in entries]
