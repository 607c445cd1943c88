from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime as ort
import pytest
import torch
from hwprune.backends.cpu import CpuBackend
from torch.nn import functional

from hwprune.backend import Capabilities
from hwprune.export.lower import lower
from hwprune.export.narrow import in_bytes, narrowed
from hwprune.graph.read import canonical
from hwprune.network.run import outputs
from hwprune.quantize.encodings import Array, Encoding, Encodings
from hwprune.quantize.placement import Placement, place
from hwprune.quantize.ptq import quantize
from hwprune.testing.networks import Builder
from hwprune.verify.kernels import products

pytestmark = pytest.mark.ort

ALL = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
NONE = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
WEIGHTS = {8: 2.0**-7, 2: 0.25, 1: 0.25}  # powers of two: all that follows is exact


def activation(bits: int, zero_point: int = 0, signed: bool = False) -> Encoding:
    scale = np.asarray(np.float32(2.0 ** (1 - bits)))
    return Encoding(scale, np.asarray(zero_point), None, bits, signed)


KINDS = {
    "DoReFa, 4 bits": (activation(4), 8),
    "DoReFa, 2 bits": (activation(2), 2),
    "0 or 1": (activation(1), 1),
    "3 bits on both sides": (activation(3, zero_point=3), 8),
    "4 bits, symmetric": (activation(4, signed=True), 8),
    "BNN": (activation(1, signed=True), 1),
}


def network(rectified: bool) -> gs.Graph:
    """Convolutions (padded, 1x1 without a bias, strided), a MaxPool between, a Gemm."""
    b = Builder()
    x = b.conv("x", 4)
    x = b.relu(x) if rectified else x
    x = b.add("Conv", [x, b.weight(8, 4, 1, 1)], (8, 8, 8))
    x = b.relu(x) if rectified else x
    x = b.conv(b.add("MaxPool", [x], (8, 4, 4), kernel_shape=[2, 2], strides=[2, 2]), 8, stride=2)
    x = b.add("Flatten", [b.relu(x) if rectified else x], (32, 1, 1))
    graph = canonical(
        b.model(b.add("Gemm", [x, b.weight(5, 32), b.vector(5)], (5, 1, 1), transB=1), 5)
    )
    for node in graph.nodes:
        if len(node.inputs) > 2:
            node.inputs[2].values = np.rint(node.inputs[2].values * 4) / np.float32(4)
    return graph


def encodings_of(
    graph: gs.Graph, placement: Placement, narrow: Encoding, weight_bits: int
) -> Encodings:
    """8 bits at the network's ends, `narrow` tensors between."""
    wide = Encoding(np.asarray(np.float32(2.0**-4)), np.asarray(128))
    ends = {graph.inputs[0].name, graph.outputs[0].name}
    activations = {t: wide if t in ends else narrow for t in placement.encoded}
    scale = np.asarray(np.float32(WEIGHTS[weight_bits]))
    weight = Encoding(scale, np.asarray(0), None, weight_bits, signed=True)
    products = [n for n in graph.nodes if n.op in ("Conv", "Gemm")]
    return Encodings(activations, {n.inputs[1].name: weight for n in products})


def fake_quantised(
    graph: gs.Graph, placement: Placement, encodings: Encodings, x: Array
) -> dict[str, Array]:
    """Every tensor in double precision; what is quantised is rounded where it is made."""

    def rounded(name: str, value: torch.Tensor) -> torch.Tensor:
        if name not in {*placement.made, *placement.read}:
            return value
        encoding = encodings.activations[placement.root(name)]
        return torch.from_numpy(encoding.dequantize(encoding.quantize(value.numpy()))).double()

    name = graph.inputs[0].name
    values = {name: rounded(name, torch.from_numpy(x).double())}
    for node in graph.nodes:
        data = values[node.inputs[0].name]
        constants = [torch.from_numpy(t.values) for t in node.inputs[1:]]
        if node.op in ("Conv", "Gemm"):
            encoding = encodings.weights[node.inputs[1].name]
            weight = node.inputs[1].values
            if node.name in placement.nodes:
                weight = encoding.dequantize(encoding.quantize(weight))
            given = [torch.from_numpy(weight).double(), *(c.double() for c in constants[1:])]
            if node.op == "Conv":
                stride, padding = node.attrs.get("strides", 1), node.attrs.get("pads", [0])[0]
                out = functional.conv2d(data, *given, stride=stride, padding=padding)
            else:
                out = functional.linear(data, *given)
        elif node.op == "MaxPool":
            out = functional.max_pool2d(data, 2)
        else:
            out = data.relu() if node.op == "Relu" else data.flatten(1)
        values[node.outputs[0].name] = rounded(node.outputs[0].name, out)
    return {name: value.numpy() for name, value in values.items()}


def answer(model: onnx.ModelProto, x: Array, level: ort.GraphOptimizationLevel) -> Array:
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: sample[None]})[0] for sample in x])


@pytest.mark.parametrize("kind", KINDS)
def test_file_computes_what_the_fake_quantised_network_does(
    kind: str, capabilities: Capabilities, tmp_path: Path
) -> None:
    narrow, weight_bits = KINDS[kind]
    graph = network(rectified=not narrow.signed and not narrow.zero_point)
    kernels = {node.name: "int8" for node in graph.nodes}
    placement = place(graph, kernels, capabilities)
    encodings = encodings_of(graph, placement, narrow, weight_bits)
    x = np.random.default_rng(0).standard_normal((16, 3, 8, 8)).astype(np.float32)
    values = fake_quantised(graph, placement, encodings, x)
    model = lower(graph, kernels, encodings, capabilities)
    expected = values[graph.outputs[0].name]
    assert len(np.unique(expected)) > 5
    for level in (NONE, ALL):
        np.testing.assert_array_equal(answer(model, x, level), expected)
    path = tmp_path / "model.onnx"
    onnx.save_model(model, path)
    assert products(CpuBackend(), path) == (4, 0)
    assert Counter(CpuBackend().executed(path))["Clip"] == len(narrowed(model)) == 3


def test_fp32_layers_in_front_are_narrowed_for_their_integer_readers_only(
    capabilities: Capabilities, tmp_path: Path
) -> None:
    graph = network(rectified=True)
    kernels = {node.name: "int8" for node in graph.nodes[2:]}  # all but Conv and Relu
    graph.nodes[0].inputs[1].values = np.rint(graph.nodes[0].inputs[1].values * 64) / np.float32(64)
    placement = place(graph, kernels, capabilities)
    encodings = encodings_of(graph, placement, activation(2), 2)
    x = np.random.default_rng(0).integers(-40, 40, (16, 3, 8, 8)).astype(np.float32) / 16
    expected = fake_quantised(graph, placement, encodings, x)[graph.outputs[0].name]
    assert len(np.unique(expected)) > 5
    model = lower(graph, kernels, encodings, capabilities)
    for level in (NONE, ALL):
        np.testing.assert_array_equal(answer(model, x, level), expected)
    onnx.save_model(model, tmp_path / "model.onnx")
    assert products(CpuBackend(), tmp_path / "model.onnx") == (3, 1)
    assert len(narrowed(model)) == 3


def test_the_sign_of_a_sum_of_zero_is_positive(capabilities: Capabilities) -> None:
    b = Builder(shape=(4, 1, 1))
    signs = b.add("Conv", ["x", b.weight(6, 4, 1, 1)], (6, 1, 1))
    flat = b.add("Flatten", [signs], (6, 1, 1))  # passes the bits on: nothing is summed again
    graph = canonical(b.model(flat, 6))
    kernels = {node.name: "int8" for node in graph.nodes}
    placement = place(graph, kernels, capabilities)
    encodings = encodings_of(graph, placement, activation(1, signed=True), 1)
    x = np.random.default_rng(0).choice(np.float32([-1, 1]), (64, 4, 1, 1))
    values = fake_quantised(graph, placement, encodings, x)
    (weight,) = (n.inputs[1].values.reshape(6, 4) for n in graph.nodes if n.op == "Conv")
    sums = x.reshape(64, 4) @ np.where(weight < 0, -1, 1).T
    assert (sums == 0).any()
    found = answer(lower(graph, kernels, encodings, capabilities), x, ALL)
    np.testing.assert_array_equal(found, np.where(sums < 0, -1, 1))
    np.testing.assert_array_equal(found, values[graph.outputs[0].name])


def test_eight_bits_need_no_clip() -> None:
    form = in_bytes(activation(8, zero_point=7))
    assert form.bounds is None
    assert form.made == form.read


@pytest.mark.parametrize("bits", [4, 2])
def test_few_bits_after_training_are_what_the_file_computes(
    bits: int, capabilities: Capabilities, images: torch.Tensor
) -> None:
    """Weights and activations of few bits, chosen by calibration: the file against its twin."""
    graph = network(rectified=True)
    kernels = {node.name: "int8" for node in graph.nodes}
    inner = dict.fromkeys((n.name for n in graph.nodes if n.inputs[0].name != "x"), bits)
    found = quantize(graph, kernels, capabilities, images, inner, inner)
    assert bits in {e.bits for e in found.encodings.activations.values()}
    model = lower(found.graph, kernels, found.encodings, capabilities)
    expected = outputs(found.module, images)[0].numpy()
    computed = answer(model, images.numpy(), ALL)
    step = float(found.encodings.activations[graph.outputs[0].name].scale)
    assert np.abs(computed - expected).max() <= 1.01 * step  # biases have steps, too
    assert (np.abs(computed - expected) < step / 2).mean() > 0.9
    assert len(np.unique(expected)) > 5
