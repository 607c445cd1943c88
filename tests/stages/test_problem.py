"""The search problem: factors over the right variables, with the right tables."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hwprune.backends.null import NullBackend
from hwprune.backends.null.rules import kernel_ns

from hwprune.graph.coupling import couple
from hwprune.latency.calibrate import Calibration
from hwprune.latency.estimator import Estimator
from hwprune.latency.kernels import KernelGraph
from hwprune.latency.space import build_space
from hwprune.pruning.ranking import Ranking
from hwprune.stages.problem import build_problem
from hwprune.testing.networks import build, plain, residual

BRANCH_LOSS, KERNEL_LOSS = 0.7, 0.01


@pytest.fixture(scope="module")
def estimator():
    graph = build(plain, residual, stem=16)
    network = KernelGraph(graph, couple(graph), NullBackend().capabilities())
    found = Estimator(network, build_space(network, 4, 16))
    found.load({k: kernel_ns(k) for k in found.wanted()})
    return found


@pytest.fixture(scope="module")
def problem(estimator):
    coupling = estimator.network.coupling
    rankings = {
        g.name: Ranking(np.arange(g.width), np.linspace(0, 1, g.width + 1))
        for g in coupling.prunable
    }
    branches = {b.name: BRANCH_LOSS for b in coupling.branches}
    kernels = {node: {"int8": KERNEL_LOSS} for node in estimator.space.kernels}
    return build_problem(estimator, estimator.space, Calibration(), rankings, branches, kernels, {})


def test_a_table_has_one_axis_per_variable(problem):
    sizes = {v.name: v.size for v in problem.variables}
    for factor in (*problem.latency, *problem.loss):
        assert factor.table.shape == tuple(sizes[name] for name in factor.scope)


def test_full_width_loses_nothing_and_narrower_loses_more(problem):
    for factor in problem.loss:
        if factor.scope[0].startswith("width:"):
            kept = factor.table[(..., *(1 for _ in factor.scope[1:]))]
            assert kept[-1] == 0
            assert (np.diff(kept) < 0).all()


def test_a_group_inside_a_dropped_branch_loses_nothing(problem, estimator):
    (branch,) = estimator.space.branches
    inside = [f for f in problem.loss if f.scope[0][:6] == "width:" and len(f.scope) == 2]
    assert [f.scope[1] for f in inside] == [f"branch:{branch}"]
    assert (inside[0].table[:, 0] == 0).all()
    assert inside[0].table[0, 1] > 0


def test_branches_and_kernels_cost_what_was_measured(problem):
    tables = {f.scope: f.table for f in problem.loss if len(f.scope) == 1}
    branches = [t for s, t in tables.items() if s[0].startswith("branch:")]
    kernels = [t for s, t in tables.items() if s[0].startswith("kernel:")]
    assert [list(t) for t in branches] == [[BRANCH_LOSS, 0.0]]
    assert kernels
    assert all(list(t) == [0.0, KERNEL_LOSS] for t in kernels)


def test_the_latency_is_that_of_the_estimator(problem, estimator):
    full = {v.name: v.size - 1 for v in problem.variables}
    c = estimator.space.configuration(full)
    assert problem.latency_ns(full) == pytest.approx(estimator.latency_ns(c, Calibration()))


def test_each_kernel_has_a_loss_of_its_own(estimator):
    node = next(iter(estimator.space.kernels))
    options = {**estimator.space.kernels, node: ("fp32", "int8", "nbits-4/32")}
    wider = replace(estimator.space, kernels=options)
    told = {node: {"int8": 0.2, "nbits-4/32": 0.3}}
    with_more = SimpleNamespace(space=wider, network=estimator.network, factors=lambda _: ())
    rankings = {
        g.name: Ranking(np.arange(g.width), np.zeros(g.width + 1))
        for g in estimator.network.coupling.prunable
    }
    branches = {b.name: 0.0 for b in estimator.network.coupling.branches}
    found = build_problem(with_more, with_more.space, Calibration(), rankings, branches, told, {})
    tables = {f.scope[0]: list(f.table) for f in found.loss if f.scope[0][:7] == "kernel:"}
    assert tables.pop(f"kernel:{node}") == [0.0, 0.2, 0.3]
    assert all(table == [0.0, 0.0] for table in tables.values())
