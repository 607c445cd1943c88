"""A network quantised as another one is: the same function where nothing was cut."""

import numpy as np
import onnx_graphsurgeon as gs
import pytest
import torch

from hwprune.backend import Capabilities
from hwprune.graph.coupling import couple
from hwprune.graph.slim import slim
from hwprune.network.run import outputs
from hwprune.quantize.alike import quantized_alike
from hwprune.quantize.ptq import quantize
from hwprune.testing import networks

INT8 = frozenset({"int8"})
OPS = ("Conv", "Gemm", "MatMul", "Add", "GlobalAveragePool")


@pytest.fixture(scope="module")
def graph() -> gs.Graph:
    return networks.build(networks.plain, networks.residual)


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    return torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def target(per_channel: bool = True) -> Capabilities:
    return Capabilities(
        dict.fromkeys(OPS, INT8), {"int8": frozenset({"Relu"})}, frozenset(),
        passthrough=frozenset({"Flatten"}), per_channel=per_channel,
    )  # fmt: skip


@pytest.mark.parametrize(("kind", "bits"), [("xnor", 1), ("ternary", 2), ("dorefa", 2), ("max", 4)])
def test_the_latent_network_quantised_again_is_the_same(
    graph: gs.Graph, x: torch.Tensor, kind: str, bits: int
) -> None:
    kernels = dict.fromkeys((n.name for n in graph.nodes), "int8")
    capabilities = target(per_channel=kind != "dorefa")
    first = quantize(graph, kernels, capabilities, x, dict.fromkeys(kernels, bits), kind=kind)
    again = quantized_alike(first.graph, first, kernels, capabilities)
    assert again.encodings.activations.keys() == first.encodings.activations.keys()
    for name, encoding in first.encodings.activations.items():
        other = again.encodings.activations[name]
        assert (other.bits, other.zero_point) == (encoding.bits, encoding.zero_point)
        np.testing.assert_allclose(other.scale, encoding.scale, rtol=1e-5)
    expected, found = outputs(first.module, x)[0], outputs(again.module, x)[0]
    assert float((found - expected).abs().median()) <= 0.01 * float(expected.abs().max())


def test_latent_weights_stay_what_they_were_and_narrow_networks_keep_ranges(
    graph: gs.Graph, x: torch.Tensor
) -> None:
    kernels = dict.fromkeys((n.name for n in graph.nodes), "int8")
    first = quantize(graph, kernels, target(), x, dict.fromkeys(kernels, 2))
    coupling = couple(graph)
    group = coupling.prunable[0]
    narrow = slim(graph, coupling, {group.name: tuple(range(group.width // 2))})
    found = quantized_alike(narrow, first, kernels, target())
    for name, tensor in found.graph.tensors().items():
        if isinstance(tensor, gs.Constant):
            np.testing.assert_array_equal(tensor.values, narrow.tensors()[name].values)
    scales = {n: e.scale for n, e in found.encodings.activations.items()}
    np.testing.assert_allclose(
        list(scales.values()), [first.encodings.activations[n].scale for n in scales], rtol=1e-5
    )
    assert {e.bits for e in found.encodings.weights.values()} == {2}
    assert outputs(found.module, x)[0].shape == outputs(first.module, x)[0].shape
