import copy
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx_graphsurgeon as gs
import pytest
import torch
from torch import fx

from hwprune.backend import Capabilities
from hwprune.errors import UsageError
from hwprune.graph.cost import weighted_nodes
from hwprune.network.run import capture, outputs
from hwprune.network.twin import to_module
from hwprune.quantize.instrument import encodings_of
from hwprune.quantize.noise import sqnr_db
from hwprune.quantize.placement import data_inputs, place
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
def test_full_widths_use_the_whole_range(
    graph: gs.Graph, instrumented: Callable[..., fx.GraphModule], bits: int
) -> None:
    encodings = encodings_of(instrumented(graph, "max", bits))
    tensors = graph.tensors()
    for name, encoding in encodings.weights.items():
        weight = tensors[name].values
        others = tuple(i for i in range(weight.ndim) if i != encoding.axis)
        top = 2 ** (bits - 1) - 1
        np.testing.assert_allclose(encoding.scale, np.abs(weight).max(others) / top, rtol=1e-5)
        assert np.abs(encoding.quantize(weight)).max() == top


@pytest.mark.parametrize("bits", [4, 2, 1])
def test_bits_of_each_node(
    graph: gs.Graph,
    kernels: dict[str, str],
    capabilities: Capabilities,
    images: torch.Tensor,
    bits: int,
) -> None:
    """Stored integers are few, and stand for the very weights that the module computes with."""
    nodes = weighted_nodes(graph)
    first, last = nodes[0], nodes[-1]
    inner = {node.name: bits for node in nodes[1:-1]}
    found = quantize(graph, kernels, capabilities, images, {**inner, last.name: 6})
    weights, module = found.encodings.weights, found.module
    assert (weights[first.inputs[1].name].bits, weights[last.inputs[1].name].bits) == (8, 6)
    for node in nodes[1:-1]:
        weight = node.inputs[1].name
        integers = weights[weight].quantize(found.graph.tensors()[weight].values)
        assert len(np.unique(integers)) <= max(2, 2**bits - 1)
        layer = module.get_submodule(module.meta["quantized_weights"][weight][0])
        computed = layer.quant_weight().value.detach().numpy()
        again = weights[weight].dequantize(integers).reshape(computed.shape)
        np.testing.assert_allclose(again, computed, atol=1e-6)


def test_low_bits_are_better_than_plain_rounding(
    graph: gs.Graph,
    kernels: dict[str, str],
    capabilities: Capabilities,
    images: torch.Tensor,
    instrumented: Callable[..., fx.GraphModule],
) -> None:
    exact = outputs(to_module(graph), images)[0]
    bits = {node.name: 3 for node in weighted_nodes(graph)}
    found = quantize(graph, kernels, capabilities, images, bits)
    plain = instrumented(graph, "mse", 3)
    ours, theirs = (sqnr_db(exact, outputs(m, images)[0]) for m in (found.module, plain))
    assert ours > theirs + 2


def test_latent_weights_are_not_rounded(
    graph: gs.Graph, kernels: dict[str, str], capabilities: Capabilities, images: torch.Tensor
) -> None:
    """GPTQ is better here, and writes over the weights; `latent` keeps them behind their selves."""
    bits = {node.name: 3 for node in weighted_nodes(graph)}
    unlike = []
    for latent in (False, True):
        found = quantize(graph, kernels, capabilities, images, bits, latent=latent)
        pairs = [(graph.tensors()[n], found.graph.tensors()[n]) for n in found.encodings.weights]
        unlike.append(sum(not np.array_equal(a.values, b.values) for a, b in pairs))
    assert unlike[0] > 0
    assert unlike[1] == 0


def test_the_target_limits_the_bits(
    graph: gs.Graph, kernels: dict[str, str], capabilities: Capabilities, images: torch.Tensor
) -> None:
    seven = replace(capabilities, weight_bits=7)
    nodes = weighted_nodes(graph)
    found = quantize(graph, kernels, seven, images, {nodes[0].name: 8, nodes[1].name: 5})
    bits = [found.encodings.weights[node.inputs[1].name].bits for node in nodes]
    assert bits == [7, 5, *[7] * (len(nodes) - 2)]


@pytest.mark.parametrize("bits", [0, 9])
def test_other_bits_are_refused(
    graph: gs.Graph,
    kernels: dict[str, str],
    capabilities: Capabilities,
    images: torch.Tensor,
    bits: int,
) -> None:
    name = weighted_nodes(graph)[0].name
    wide = replace(capabilities, weight_bits=16)
    with pytest.raises(UsageError, match=name):
        quantize(graph, kernels, wide, images, {name: bits})


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


def test_a_tensor_has_the_most_bits_that_a_reader_asks_for(
    graph: gs.Graph, kernels: dict[str, str], capabilities: Capabilities, images: torch.Tensor
) -> None:
    products = weighted_nodes(graph)
    wanted = dict.fromkeys((node.name for node in products), 3)
    found = quantize(graph, kernels, capabilities, images, act_bits=wanted).encodings.activations
    placement = place(graph, kernels, capabilities)
    readers: dict[str, set[int]] = {}
    for node in graph.nodes:
        for tensor in data_inputs(node) if node.name in placement.nodes else ():
            readers.setdefault(placement.root(tensor.name), set()).add(wanted.get(node.name, 8))
    assert {3, 8} <= {max(bits) for bits in readers.values()}
    for tensor, encoding in found.items():
        assert encoding.bits == max(readers.get(tensor, {8}))


def test_fewer_bits_of_activations_lose_more(
    graph: gs.Graph, kernels: dict[str, str], capabilities: Capabilities, images: torch.Tensor
) -> None:
    exact, found = outputs(to_module(graph), images)[0], []
    for bits in (2, 4, 8):
        wanted = dict.fromkeys(kernels, bits)
        module = quantize(graph, kernels, capabilities, images, act_bits=wanted).module
        found.append(sqnr_db(exact, outputs(module, images)[0]))
    assert found == sorted(found)
    assert found[0] + 10 < found[-1]


def test_other_bits_of_activations_are_refused(
    graph: gs.Graph, kernels: dict[str, str], capabilities: Capabilities, images: torch.Tensor
) -> None:
    with pytest.raises(UsageError, match="cannot read 9 bits"):
        quantize(graph, kernels, capabilities, images, act_bits={graph.nodes[0].name: 9})
