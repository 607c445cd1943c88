"""SLB: the mean of a distribution over few values, which becomes certain."""

from collections.abc import Iterator

import numpy as np
import onnx_graphsurgeon as gs
import pytest
import torch
from torch import nn

from hwprune.backend import Capabilities
from hwprune.frontend.dataset import DataSet
from hwprune.network.run import outputs
from hwprune.network.twin import to_module
from hwprune.quantize.encodings import levels_of
from hwprune.quantize.noise import sqnr_db
from hwprune.quantize.ptq import quantize
from hwprune.quantize.searched import Searched, anneal, begin
from hwprune.testing.networks import build, flat_head, residual
from hwprune.train.qat import qat
from hwprune.train.recipe import Recipe


@pytest.fixture(scope="module")
def graph() -> gs.Graph:
    return build(residual, head=flat_head)


def searches(module: nn.Module) -> Iterator[Searched]:
    return (m for m in module.modules() if isinstance(m, Searched))


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_the_mean_becomes_the_likeliest_value(bits: int) -> None:
    weight = torch.randn(6, 5, 3, 3, generator=torch.Generator().manual_seed(bits))
    search = Searched(bits, 0)
    nearest = search(weight)[0]
    search.begin(weight)
    torch.testing.assert_close(search.eval()(weight)[0], nearest)
    gaps, entropies = [], []
    for temperature in (1.0, 0.3, 0.1, 0.01, 0.001):
        search.temperature.fill_(temperature)
        soft, hard = (search.train(mode)(weight)[0].detach() for mode in (True, False))
        p = search.probabilities().detach()
        torch.testing.assert_close(p.sum(0), torch.ones_like(weight))
        gaps.append(float((soft - hard).abs().mean()))
        entropies.append(float(-(p * p.clamp_min(1e-30).log()).sum(0).mean()))
    assert gaps == sorted(gaps, reverse=True)
    assert entropies == sorted(entropies, reverse=True)
    assert gaps[-1] < 0.01 * gaps[0]


def test_the_mean_is_that_of_the_formula() -> None:
    weight = torch.tensor([[0.3, -1.0, 0.8]])
    search = Searched(2, 0)
    search.begin(weight)
    search.temperature.fill_(0.5)
    search.train()
    scale = float(search(weight)[1])
    with torch.no_grad():
        assert search.logits is not None
        search.logits.copy_(torch.randn(3, 1, 3, generator=torch.Generator().manual_seed(0)))
        logits = search.logits.double().numpy() / scale / 0.5
    p = np.exp(logits) / np.exp(logits).sum(0)
    expected = (p * np.array([-1, 0, 1]).reshape(3, 1, 1)).sum(0) * scale
    np.testing.assert_allclose(search(weight)[0].detach().numpy(), expected, rtol=1e-5)


def test_training_finds_better_weights_on_the_grid(
    graph: gs.Graph, capabilities: Capabilities, images: torch.Tensor
) -> None:
    kernels = {node.name: "int8" for node in graph.nodes}
    bits = dict.fromkeys(kernels, 2)
    x = torch.randn(768, 3, 8, 8, generator=torch.Generator().manual_seed(7))
    quantized = quantize(graph, kernels, capabilities, x[:256], bits, kind="slb")
    exact = outputs(to_module(graph), images)[0]
    before = sqnr_db(exact, outputs(quantized.module, images)[0])
    trained = qat(quantized, graph, DataSet(x.numpy()), Recipe(4), 0)
    after = sqnr_db(exact, outputs(trained.module, images)[0])
    assert after > before + 0.2  # plain training finds nothing better here
    assert all(m.scale is not None and m.logits is None for m in searches(trained.module))
    tensors = trained.graph.tensors()
    for name, encoding in trained.encodings.weights.items():
        integers = encoding.quantize(tensors[name].values)
        assert set(np.unique(integers)) <= set(levels_of(2))
        np.testing.assert_allclose(
            encoding.dequantize(integers), tensors[name].values, rtol=1e-5, atol=1e-7
        )


def test_the_temperature_falls_between_its_shares(
    graph: gs.Graph, capabilities: Capabilities, images: torch.Tensor
) -> None:
    kernels = {node.name: "int8" for node in graph.nodes}
    bits = dict.fromkeys(kernels, 2)
    module = quantize(graph, kernels, capabilities, images, bits, kind="slb").module
    begin(module)
    seen = []
    for share in (0.0, 0.3, 0.5, 0.7, 0.9, 1.0):
        anneal(module, share)
        (temperature,) = {float(m.temperature) for m in searches(module)}
        seen.append(temperature)
    assert seen == sorted(seen, reverse=True)
    assert seen[0] == seen[1] == 1
    assert seen[-2] == seen[-1] == pytest.approx(1e-3)
    ratios = np.array(seen[2:5]) / np.array(seen[1:4])
    np.testing.assert_allclose(ratios, ratios[0])
