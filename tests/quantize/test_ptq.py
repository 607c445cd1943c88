import copy

import numpy as np
import onnx_graphsurgeon as gs
import pytest
import torch

from hwprune.backend import Capabilities
from hwprune.network.run import capture, outputs
from hwprune.network.twin import to_module
from hwprune.quantize.instrument import calibrated, encodings_of
from hwprune.quantize.noise import sqnr_db
from hwprune.quantize.placement import place
from hwprune.quantize.ptq import Quantized, quantize, reread
from hwprune.testing.networks import build, flat_head, residual, separable


@pytest.fixture(scope="module")
def graph() -> gs.Graph:
    return build(residual, separable)


@pytest.fixture(scope="module")
def kernels(graph: gs.Graph) -> dict[str, str]:
    return {node.name: "int8" for node in graph.nodes}


@pytest.fixture(scope="module")
def quantized(
    graph: gs.Graph, kernels: dict[str, str], capabilities: Capabilities, images: torch.Tensor
) -> Quantized:
    return quantize(graph, kernels, capabilities, images)


def test_stays_near_the_fp32_network(
    graph: gs.Graph, quantized: Quantized, images: torch.Tensor
) -> None:
    exact = outputs(to_module(graph), images)[0]
    assert 30 < sqnr_db(exact, outputs(quantized.module, images)[0]) < 70


def test_input_graph_is_left_unchanged(graph: gs.Graph, quantized: Quantized) -> None:
    fresh = build(residual, separable)
    for name, tensor in graph.tensors().items():
        if isinstance(tensor, gs.Constant):
            np.testing.assert_array_equal(tensor.values, fresh.tensors()[name].values)


def test_every_encoded_tensor_lies_on_its_grid(quantized: Quantized, images: torch.Tensor) -> None:
    encodings = quantized.encodings.activations
    made = [t for t in encodings if t != "x"]
    values = capture(quantized.module, images, [*made, "x/dequantized"])
    for tensor, found in values.items():
        encoding = encodings[tensor.removesuffix("/dequantized")]
        again = encoding.dequantize(encoding.quantize(found.numpy()))
        np.testing.assert_allclose(found.numpy(), again, atol=1e-6)


def test_encodings_quantise_as_the_module_does(quantized: Quantized, images: torch.Tensor) -> None:
    encoding = quantized.encodings.activations["x"]
    found = capture(quantized.module, images, ["x/dequantized"])["x/dequantized"].numpy()
    np.testing.assert_allclose(
        encoding.dequantize(encoding.quantize(images.numpy())), found, atol=1e-6
    )


@pytest.mark.parametrize("bits", [8, 7])
def test_weights_use_the_whole_range(
    graph: gs.Graph,
    kernels: dict[str, str],
    capabilities: Capabilities,
    images: torch.Tensor,
    bits: int,
) -> None:
    fewer = Capabilities(
        capabilities.precisions,
        capabilities.activations,
        capabilities.residual_fused,
        capabilities.passthrough,
        weight_bits=bits,
    )
    encodings = encodings_of(calibrated(graph, place(graph, kernels, fewer), fewer, images))
    tensors = graph.tensors()
    for name, encoding in encodings.weights.items():
        weight = tensors[name].values
        others = tuple(i for i in range(weight.ndim) if i != encoding.axis)
        top = 2 ** (bits - 1) - 1
        np.testing.assert_allclose(encoding.scale, np.abs(weight).max(others) / top, rtol=1e-5)
        assert np.abs(encoding.quantize(weight)).max() == top


def test_nonnegative_tensors_have_no_zero_point(quantized: Quantized) -> None:
    points = [int(e.zero_point) for e in quantized.encodings.activations.values()]
    assert 0 in points
    assert int(quantized.encodings.activations["x"].zero_point) > 100


def test_matrices_are_quantised_per_column(
    capabilities: Capabilities, images: torch.Tensor
) -> None:
    graph = build(head=flat_head)
    kernels = {node.name: "int8" for node in graph.nodes if node.op in ("MatMul", "Gemm")}
    quantized = quantize(graph, kernels, capabilities, images)
    axes = {e.axis: e.scale.shape for e in quantized.encodings.weights.values()}
    assert set(axes) == {1}


def test_bias_correction_moves_biases_only(graph: gs.Graph, quantized: Quantized) -> None:
    before, after = graph.tensors(), quantized.graph.tensors()
    for name, tensor in before.items():
        if isinstance(tensor, gs.Constant) and tensor.values.ndim > 1:
            np.testing.assert_array_equal(tensor.values, after[name].values)


def test_outliers_are_cut(capabilities: Capabilities, images: torch.Tensor) -> None:
    graph = build(residual)
    spiked = images.clone()
    spiked[0, 0, 0, 0] = 1000.0
    kernels = {node.name: "int8" for node in graph.nodes if node.op == "Conv"}
    placement = place(graph, kernels, capabilities)
    whole, cut = (
        encodings_of(calibrated(graph, placement, capabilities, spiked, percentile))
        for percentile in (100, 99.9)
    )
    assert cut.activations["x"].scale < whole.activations["x"].scale / 50


def test_training_is_reread(quantized: Quantized, images: torch.Tensor) -> None:
    trained = Quantized(
        copy.deepcopy(quantized.module).train(), quantized.encodings, quantized.graph
    )
    optimizer = torch.optim.SGD(trained.module.parameters(), lr=0.05)
    trained.module(images).square().mean().backward()
    optimizer.step()
    again = reread(Quantized(trained.module.eval(), trained.encodings, trained.graph))
    moved = [
        name
        for name, encoding in again.encodings.weights.items()
        if not np.array_equal(encoding.scale, quantized.encodings.weights[name].scale)
    ]
    assert moved == list(quantized.encodings.weights)
    fp32 = outputs(to_module(again.graph), images)[0]
    assert sqnr_db(fp32, outputs(again.module, images)[0]) > 25
