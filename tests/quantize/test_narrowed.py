"""Channels go, and what training has found for the others stays."""

import numpy as np
import onnx_graphsurgeon as gs
import pytest
import torch

from hwprune.backend import Capabilities
from hwprune.graph.coupling import couple
from hwprune.graph.slim import slim
from hwprune.network import linear
from hwprune.network.run import outputs
from hwprune.quantize.narrowed import narrowed
from hwprune.quantize.ptq import Quantized, quantize, reread
from hwprune.quantize.quantizers import weight_scales
from hwprune.testing import networks

INT8 = frozenset({"int8"})
OPS = ("Conv", "Gemm", "MatMul", "Add", "GlobalAveragePool")


@pytest.fixture(scope="module")
def graph() -> gs.Graph:
    return networks.build(networks.plain, networks.residual)


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    return torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def target() -> Capabilities:
    return Capabilities(
        dict.fromkeys(OPS, INT8), {"int8": frozenset({"Relu"})}, frozenset(),
        passthrough=frozenset({"Flatten"}),
    )  # fmt: skip


KINDS = [("xnor", 1), ("ternary", 2), ("dorefa", 2), ("mse", 2), ("max", 4)]


def quantized(graph: gs.Graph, x: torch.Tensor, kind: str, bits: int) -> Quantized:
    kernels = dict.fromkeys((n.name for n in graph.nodes), "int8")
    found = quantize(graph, kernels, target(), x, dict.fromkeys(kernels, bits), kind=kind)
    for layer in linear.layers(found.module).values():
        for scale in weight_scales(layer):  # as if training had moved them
            with torch.no_grad():
                factors = torch.linspace(0.7, 1.4, len(scale))
                scale.mul_(factors.reshape(-1, *[1] * (scale.ndim - 1)))
    return reread(found)


@pytest.mark.parametrize(("kind", "bits"), KINDS)
def test_where_nothing_is_cut_the_network_is_the_same(
    graph: gs.Graph, x: torch.Tensor, kind: str, bits: int
) -> None:
    whole = quantized(graph, x, kind, bits)
    kernels = dict.fromkeys((n.name for n in graph.nodes), "int8")
    again = narrowed(whole, couple(whole.graph), {}, kernels, target())
    assert again.encodings.activations.keys() == whole.encodings.activations.keys()
    for name, encoding in whole.encodings.activations.items():
        other = again.encodings.activations[name]
        assert (other.bits, other.zero_point) == (encoding.bits, encoding.zero_point)
        np.testing.assert_allclose(other.scale, encoding.scale, rtol=1e-5)
    for name, encoding in whole.encodings.weights.items():
        np.testing.assert_allclose(again.encodings.weights[name].scale, encoding.scale, rtol=1e-5)
    expected, found = outputs(whole.module, x)[0], outputs(again.module, x)[0]
    assert float((found - expected).abs().median()) <= 0.01 * float(expected.abs().max())


@pytest.mark.parametrize(("kind", "bits"), KINDS)
def test_what_stays_keeps_its_latent_weights_ranges_and_own_scales(
    graph: gs.Graph, x: torch.Tensor, kind: str, bits: int
) -> None:
    whole = quantized(graph, x, kind, bits)
    kernels = dict.fromkeys((n.name for n in graph.nodes), "int8")
    coupling = couple(whole.graph)
    keep = {g.name: tuple(range(0, g.width, 2)) for g in coupling.prunable}
    found = narrowed(whole, coupling, keep, kernels, target())
    plain = slim(whole.graph, coupling, keep).tensors()
    for name, tensor in found.graph.tensors().items():
        if isinstance(tensor, gs.Constant):
            np.testing.assert_array_equal(tensor.values, plain[name].values)
    for name, encoding in found.encodings.activations.items():
        before = whole.encodings.activations[name]
        np.testing.assert_allclose(encoding.scale, before.scale, rtol=1e-5)
    if kind in ("dorefa", "mse"):
        first = coupling.prunable[0]
        weight = next(n for n in graph.nodes if n.name == first.producers[0]).inputs[1].name
        np.testing.assert_allclose(
            found.encodings.weights[weight].scale,
            whole.encodings.weights[weight].scale[::2],
            rtol=1e-6,
        )
    assert outputs(found.module, x)[0].shape == outputs(whole.module, x)[0].shape
