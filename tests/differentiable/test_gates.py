"""Gates of 0 and 1 against the slim network, and what a dropped branch leaves."""

import numpy as np
import pytest
import torch

from hwprune.differentiable.gates import Gated, without_branches
from hwprune.graph.coupling import couple
from hwprune.graph.slim import slim
from hwprune.network.twin import to_module
from hwprune.testing.networks import BLOCKS, build, plain, residual
from hwprune.testing.oracles import random_keep
from hwprune.train.batchnorm import fold_batchnorm, insert_batchnorm

STATISTICS = {"layer_normed", "group_normed", "root_mean_square"}  # over all channels: not equal
EXACT = [block for block in BLOCKS if block.__name__ not in STATISTICS]


def gates_of(coupling, keep):
    found = {}
    for group in coupling.prunable:
        gates = torch.zeros(group.width, dtype=torch.float64)
        gates[torch.from_numpy(np.asarray(keep[group.name]))] = 1.0
        found[group.name] = gates
    return found


def apart(a, b):
    return float(((a - b).abs().max() / b.abs().max().clamp_min(1e-6)).detach())


@pytest.mark.parametrize("block", EXACT, ids=lambda block: block.__name__)
def test_closed_gates_are_slimming(block):
    graph = build(block, plain, seed=1)
    coupling = couple(graph)
    names = [g.name for g in coupling.prunable]
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for seed in range(3):
        keep = random_keep(coupling, seed)
        gates = gates_of(coupling, keep)
        gated = Gated(to_module(graph), graph, coupling, names, lambda _, g=gates: g).eval()
        with torch.no_grad():
            assert apart(gated(x), to_module(slim(graph, coupling, keep))(x)) < 1e-5


def test_open_gates_change_nothing_and_batchnorm_is_no_hindrance():
    graph = build(residual, plain, seed=2)
    coupling = couple(graph)
    keep = random_keep(coupling, 5)
    gates = gates_of(coupling, keep)
    x = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    twin = to_module(graph)
    assert insert_batchnorm(twin, (x,), 8) > 2
    names = [g.name for g in coupling.prunable]
    gated = Gated(twin, graph, coupling, names, lambda _: gates).eval()
    expected = to_module(slim(graph, coupling, keep))(x)
    assert apart(gated(x), expected) < 1e-4
    gated.gates = lambda _: {n: torch.ones_like(g) for n, g in gates.items()}
    assert apart(gated(x), to_module(graph)(x)) < 1e-4
    fold_batchnorm(twin)
    assert apart(twin(x), to_module(graph)(x)) < 1e-4


def test_the_gradient_of_a_gate_is_that_of_its_weights():
    graph = build(residual, seed=3)
    coupling = couple(graph)
    names = [g.name for g in coupling.prunable]
    gates = {g.name: torch.ones(g.width, dtype=torch.float64) for g in coupling.prunable}
    gates = {name: g.requires_grad_() for name, g in gates.items()}
    gated = Gated(to_module(graph).double(), graph, coupling, names, lambda _: gates).eval()
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    name = names[1]
    [slope] = torch.autograd.grad(gated(x).square().sum(), gates[name])

    def value(step):
        moved = gates[name].detach().clone()
        moved[2] += step
        gated.gates = lambda _: {**gates, name: moved}
        return float(gated(x).square().sum().detach())

    assert (value(1e-4) - value(-1e-4)) / 2e-4 == pytest.approx(float(slope[2]), rel=1e-4)


def test_a_branch_that_is_taken_out_is_the_slim_network_without_it():
    graph = build(plain, residual, residual, seed=4)
    coupling = couple(graph)
    branch = coupling.branches[0]
    twin = to_module(graph)
    without_branches(twin, [branch])
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = to_module(slim(graph, coupling, {}, frozenset([branch.name])))(x)
    assert apart(twin(x), expected) < 1e-6
