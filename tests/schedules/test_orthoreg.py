"""OrthoReg: filters are trained apart, so that what they cost adds up."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from hwprune.frontend.dataset import DataSet
from hwprune.frontend.module import graph_from_module
from hwprune.graph.coupling import couple
from hwprune.network.twin import to_module
from hwprune.schedules.orthoreg import OrthoReg, orthogonality, orthogonality_penalty
from hwprune.train.channels import channels_of
from hwprune.train.loop import fit
from hwprune.train.recipe import Recipe


def test_penalty_against_the_formula() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(3, 5)), rng.normal(size=(6, 2))
    shares = math.sqrt(3), math.sqrt(2)
    terms = np.abs(a @ a.T - np.eye(3)).sum(), np.abs(b.T @ b - np.eye(2)).sum()
    expected = sum(s * t for s, t in zip(shares, terms, strict=True)) / sum(shares)
    found = orthogonality_penalty([torch.from_numpy(a).float(), torch.from_numpy(b).float()])
    assert abs(float(found) - expected) < 1e-4
    assert float(orthogonality_penalty([torch.eye(4)])) == 0.0


def trained(strength: float) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A regression by 6 hidden units, of which the first two start nearly as copies."""
    torch.manual_seed(0)
    first, second = nn.Linear(8, 6), nn.Linear(6, 4)
    with torch.no_grad():
        first.weight[1] = first.weight[0] + 0.02 * torch.randn(8)
        second.weight[:, 1] = second.weight[:, 0]
        first.bias.zero_()
    graph = graph_from_module(nn.Sequential(first, second), (torch.zeros(1, 8),))
    x = np.random.default_rng(1).normal(size=(1200, 8)).astype(np.float32)
    teacher, student = to_module(graph), to_module(graph)
    schedule = OrthoReg(strength)
    coupling = couple(graph)
    name = coupling.prunable[0].name
    schedule.bind(channels_of(student, graph, coupling.prunable), {name: 2})
    hooks = [schedule] if strength else []
    recipe = Recipe(20, 0.05, keeps_best=False)
    fit(student, teacher, DataSet(x), recipe, 0, hooks=hooks)
    return student, torch.from_numpy(x), teacher(torch.from_numpy(x)).detach()


def costs(net: nn.Module, x: torch.Tensor, y: torch.Tensor, which: list[int]) -> float:
    """What silencing some hidden units adds to the loss."""
    layers = [m for m in net.modules() if isinstance(m, nn.Linear)]
    with torch.no_grad():
        whole = float(F.mse_loss(net(x), y))
        kept = layers[0].weight.clone(), layers[0].bias.clone()
        layers[0].weight[which], layers[0].bias[which] = 0.0, 0.0
        found = float(F.mse_loss(net(x), y)) - whole
        layers[0].weight.copy_(kept[0])
        layers[0].bias.copy_(kept[1])
    return found


def test_filters_become_orthogonal_and_copies_stop_to_hide_what_they_cost() -> None:
    """Two copies each do without the other; both gone cost four times as much as one."""
    ratios, degrees = [], []
    for strength in (0.0, 0.02):
        net, x, y = trained(strength)
        weight = next(m for m in net.modules() if isinstance(m, nn.Linear)).weight.detach()
        degrees.append(orthogonality(weight))
        both = costs(net, x, y, [0, 1])
        ratios.append(both / (costs(net, x, y, [0]) + costs(net, x, y, [1])))
    assert degrees[1] > max(0.98, degrees[0])
    assert ratios[0] > 1.5  # a sum of single costs tells half of it
    assert abs(ratios[1] - 1) < 0.2
