"""Against traces that can be computed, and losses that can be measured."""

import numpy as np
import onnx_graphsurgeon as gs
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from hwprune.frontend.module import graph_from_module
from hwprune.network import linear
from hwprune.network.run import inputs_of, kl, outputs
from hwprune.network.twin import to_module
from hwprune.quantize.kinds import kind_of
from hwprune.quantize.quantizers import nearest, quantized_layer
from hwprune.quantize.trace import traced_sensitivity, traces
from hwprune.testing.networks import build, flat_head, residual, separable


@pytest.fixture(scope="module")
def graph() -> gs.Graph:
    return build(residual, separable, head=flat_head)


def test_the_last_layer_against_its_exact_trace(graph: gs.Graph, images: torch.Tensor) -> None:
    """Of a linear layer before a softmax: (1 - |p|^2) |x|^2 on average."""
    twin = to_module(graph)
    node, layer = list(linear.layers(twin).items())[-1]
    seen: list[torch.Tensor] = []
    layer.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    p = twin(*inputs_of(images)).softmax(1).detach()
    exact = float(((1 - p.square().sum(1)) * seen[0].square().sum(1)).mean())
    found = traces(twin, {node: layer}, inputs_of(images), 300, seed=0)[node]
    assert found == pytest.approx(exact, rel=0.05)


def test_regression_against_the_exact_trace() -> None:
    """|W x|^2 / |y|^2: 2 |x|^2 outputs / |y|^2."""
    x = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, 7, 1, bias=False))
    twin = to_module(graph_from_module(module.eval(), (x[:1],)))
    node, layer = list(linear.layers(twin).items())[-1]
    seen: list[torch.Tensor] = []
    layer.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    y = twin(x).detach()
    exact = 2 * float(seen[0].square().sum()) * 7 / float(y.square().sum())
    assert traces(twin, {node: layer}, (x,), 300, 0)[node] == pytest.approx(exact, rel=0.05)


def test_scaling_a_layer_and_unscaling_the_next_changes_nothing(images: torch.Tensor) -> None:
    graph = build(residual)
    twin = to_module(graph)
    layers = linear.layers(twin)
    first, second = (list(layers)[i] for i in (1, 2))  # the convolutions of the body
    options = dict.fromkeys((first, second), (2, 4))
    before = traced_sensitivity(graph, options, True, images)
    scaled = graph.copy()
    nodes = {n.name: n for n in scaled.nodes}
    for name, factor, parts in ((first, 4.0, 3), (second, 0.25, 2)):
        for constant in nodes[name].inputs[1:parts]:
            constant.values = (constant.values * np.float32(factor)).astype(np.float32)
    after = traced_sensitivity(scaled, options, True, images)
    for node in options:
        for bits in (2, 4):
            assert after[node][bits] == pytest.approx(before[node][bits], rel=1e-3)


def test_estimates_against_what_rounding_to_the_nearest_loses(
    graph: gs.Graph, images: torch.Tensor
) -> None:
    twin = to_module(graph)
    nodes = list(linear.layers(twin))
    traced = traced_sensitivity(graph, dict.fromkeys(nodes, (4, 8)), True, images)
    exact = outputs(twin, images)[0]
    measured = []
    for layer in linear.layers(twin).values():
        kept = layer.weight.detach().clone()
        grid = nearest(quantized_layer(layer, kind_of(4, True)))
        with torch.no_grad():
            layer.weight.copy_(grid(linear.weight_matrix(layer)).reshape(kept.shape))
            measured.append(kl(exact, outputs(twin, images)[0]))
            layer.weight.copy_(kept)
    ratios = [traced[n][4] / loss for n, loss in zip(nodes, measured, strict=True)]
    assert 0.5 < np.median(ratios) < 2
    assert spearmanr([traced[n][4] for n in nodes], measured).statistic > 0.6
    assert [traced[n][8] for n in nodes] == [0.0] * len(nodes)
