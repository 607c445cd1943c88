"""Quantisation-aware training."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
import pytest
import torch
from torch import nn

from hwprune.backend import Capabilities
from hwprune.frontend.dataset import DataSet
from hwprune.network import linear
from hwprune.network.run import outputs
from hwprune.network.twin import to_module
from hwprune.quantize.kinds import WeightKind
from hwprune.quantize.ptq import Quantized, quantize
from hwprune.quantize.quantizers import quantized_layer, weight_encoding
from hwprune.quantize.searched import begin, settle
from hwprune.train import qat as training
from hwprune.train.batchnorm import fold_batchnorm, insert_batchnorm
from hwprune.train.loss import distillation
from hwprune.train.qat import qat
from hwprune.train.recipe import Recipe
from hwprune.train.snapshots import Snapshots

COARSE = Capabilities(  # 3 bits a weight: an error that training can do something about
    {"Conv": frozenset({"int8"})},
    {"int8": frozenset({"Relu"})},
    residual_fused=frozenset(),
    passthrough=frozenset(),
    weight_bits=3,
)


def quantized(
    original: gs.Graph, data: DataSet, bits: int = 3, kind: str | None = None
) -> Quantized:
    kernels = {n.name: "int8" for n in original.nodes if n.op == "Conv"}
    widths = dict.fromkeys(kernels, bits)
    return quantize(original, kernels, COARSE, torch.from_numpy(data.x[:256]), widths, kind=kind)


def distance(module: Any, original: gs.Graph, x: np.ndarray) -> float:
    ours, theirs = outputs(module, x), outputs(to_module(original), x)
    return float(distillation(tuple(ours), tuple(theirs), 1.0))


def test_qat_brings_the_quantised_network_nearer(original: gs.Graph, data: DataSet) -> None:
    start = quantized(original, data)
    before = distance(start.module, original, data.x)
    trained = qat(start, original, data.select(slice(700)), Recipe(4), 0)
    assert distance(trained.module, original, data.x) < 0.8 * before
    weight = trained.graph.tensors()["conv1.weight"].values
    assert np.abs(weight - original.tensors()["conv1.weight"].values).max() > 1e-4


@pytest.mark.parametrize("kind", ["mse", "max", "xnor", "slb", "dorefa"])
def test_batchnorm_leaves_the_integers(original: gs.Graph, data: DataSet, kind: str) -> None:
    """Factors of BatchNorm, negative ones too, go into scales: weights stay what was trained."""
    module = quantized(original, data, 1 if kind == "xnor" else 2, kind).module
    x = torch.from_numpy(data.x[:64])
    assert insert_batchnorm(module, x, 64) == 3
    begin(module)
    generator = torch.Generator().manual_seed(0)
    for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
        signs = torch.randint(2, norm.weight.shape, generator=generator) * 2 - 1
        with torch.no_grad():
            norm.weight.mul_(signs * torch.rand(norm.weight.shape, generator=generator))
    settle(module)
    layers = {n: m for n, m in module.named_modules() if hasattr(m, "weight_kind")}
    inner = {n: integers(m) for n, m in layers.items()}
    expected = module(x).detach()
    fold_batchnorm(module)
    for name, layer in layers.items():
        flips = integers(layer) / torch.where(inner[name] == 0, 1, inner[name])
        used = inner[name] != 0
        assert bool((integers(layer)[~used] == 0).all())
        assert set(flips[used].tolist()) <= {1.0, -1.0}
    # values near the middle between two steps of an activation may fall to either side
    apart = (module(x).detach() - expected).abs()
    assert float(apart.median()) <= 0.02 * float(expected.abs().max())


def integers(layer: Any) -> torch.Tensor:
    value, scale, *_ = layer.quant_weight()
    return torch.as_tensor((value / scale).round().detach())


@pytest.mark.parametrize(
    ("kind", "granularity", "most"),
    [("mse", "tensor", 0), ("power-of-two", "channel", 0), ("max", "channel", 1)],
)
def test_scales_that_absorb_nothing_get_no_batchnorm(
    original: gs.Graph, data: DataSet, kind: str, granularity: str, most: int
) -> None:
    module = to_module(original)
    path = next(iter(linear.paths(module).values()))
    layer = quantized_layer(module.get_submodule(path), WeightKind(kind, 4, granularity))
    module.set_submodule(path, layer)
    assert insert_batchnorm(module, torch.from_numpy(data.x[:64]), 64) == 2 + most


def test_rates_follow_the_steps_of_the_weights(original: gs.Graph, data: DataSet) -> None:
    """A weight moves by the same share of what lies between two of its values at any width."""
    shares = []
    for bits in (2, 3):
        module = quantized(original, data, bits, "max").module
        rates = {g["params"][0]: g["lr"] for g in training.rounding_adam(module, 0.02).param_groups}
        layer: Any = next(m for m in module.modules() if hasattr(m, "weight_kind"))
        scale = weight_encoding(layer, 0).scale.mean()
        shares.append(rates[layer.weight] / scale)
    np.testing.assert_allclose(shares, 0.02, rtol=1e-5)


def test_the_network_given_is_the_worst_that_comes_back(
    original: gs.Graph, data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "RATE", 1e3)
    start = quantized(original, data)
    before = distance(copy.deepcopy(start.module), original, data.x)
    trained = qat(start, original, data.select(slice(300)), Recipe(1), 0)
    assert distance(trained.module, original, data.x) == pytest.approx(before, rel=0.02)


@pytest.mark.parametrize("kind", ["mse", "slb"])
def test_a_killed_training_goes_on_to_the_same_parameters(
    original: gs.Graph, data: DataSet, kind: str, tmp_path: Path
) -> None:
    """Scales and distributions that are learned, too."""
    few, snapshots = data.select(slice(300)), Snapshots(tmp_path / "state", "this")

    def killed(done: int, total: int, text: str) -> None:
        if done > 0.6 * total:
            raise KeyboardInterrupt

    alone = qat(quantized(original, few, kind=kind), original, few, Recipe(2), 0)
    start = quantized(original, few, kind=kind)
    with pytest.raises(KeyboardInterrupt):
        qat(start, original, few, Recipe(2), 0, killed, snapshots)
    again = qat(quantized(original, few, kind=kind), original, few, Recipe(2), 0, None, snapshots)
    theirs = alone.module.state_dict()
    for name, mine in again.module.state_dict().items():
        assert torch.equal(mine, theirs[name]), name
