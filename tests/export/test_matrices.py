"""Products that round for themselves, in the file: against their twins, and against the weights."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime as ort
import pytest
import torch
from torch import nn

from hwprune.backend import Capabilities
from hwprune.export.load import load
from hwprune.export.lower import lower
from hwprune.export.matrices import packed
from hwprune.export.placeholder import placeholder_encodings
from hwprune.export.write import network_files
from hwprune.frontend.module import graph_from_module
from hwprune.network.run import outputs
from hwprune.network.twin import to_module
from hwprune.precision import blockwise
from hwprune.quantize.blocks import quantize_blocks
from hwprune.quantize.noise import sqnr_db
from hwprune.quantize.ptq import quantize

pytestmark = pytest.mark.ort

KERNELS = ("dynamic-int8", "nbits-2/128", "nbits-4/32", "nbits-4/128", "nbits-8/128", "nbits-8/16")


@pytest.fixture
def able(capabilities: Capabilities) -> Capabilities:
    both = frozenset({"int8", *KERNELS})
    precisions = dict(capabilities.precisions) | {"Gemm": both, "MatMul": both}
    return replace(capabilities, precisions=precisions, bias_fused=frozenset({"fp32", *KERNELS}))


class Products(nn.Module):
    """Layers with a bias and without, and a product with its Add written out."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(200, 90), nn.Linear(90, 33, bias=False)
        self.matrix = nn.Parameter(torch.randn(33, 24) / 6)
        self.row = nn.Parameter(torch.randn(24))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.second(torch.relu(self.first(x))))
        return torch.relu(x @ self.matrix + self.row)


@pytest.fixture(scope="module", params=[(1, 200), (1, 5, 200), (2, 3, 200)], ids=str)
def graph(request: pytest.FixtureRequest) -> gs.Graph:
    return graph_from_module(Products().eval(), (torch.zeros(*request.param),))


def answers(model: onnx.ModelProto, x: torch.Tensor) -> torch.Tensor:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    (given,) = session.get_inputs()
    calls = x.split(given.shape[0])
    found = [session.run(None, {given.name: call.numpy()})[0] for call in calls]
    return torch.cat([torch.from_numpy(part) for part in found])


def samples(graph: gs.Graph) -> torch.Tensor:
    shape = (32, *graph.inputs[0].shape[1:])
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_file_computes_what_its_twin_does(graph, able, kernel):
    x, kernels = samples(graph), {node.name: kernel for node in graph.nodes}
    quantized = quantize(graph, kernels, able, x)
    model = lower(quantized.graph, kernels, quantized.encodings, able)
    onnx.checker.check_model(model)
    ops = Counter(node.op_type for node in model.graph.node)
    head = "DynamicQuantizeMatMul" if kernel == "dynamic-int8" else "MatMulNBits"
    assert ops == {head: 3, "Relu": 3}
    # Where a value falls between two steps, one of 127 to either side: 42 dB below, in one of many.
    assert sqnr_db(outputs(quantized.module, x)[0], answers(model, x)) > 55


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_network_beside_the_file_can_be_loaded_again(graph, able, kernel, tmp_path):
    """Though the file imports the runtime's own operators, which nobody else can read."""
    kernels = {node.name: kernel for node in graph.nodes}
    lower(graph, kernels, placeholder_encodings(graph, kernels, able), able)
    for name, content in network_files(graph).items():
        (tmp_path / name).write_bytes(content)
    x = samples(graph)
    assert torch.equal(outputs(load(tmp_path), x)[0], outputs(to_module(graph), x)[0])


@pytest.mark.parametrize("kernel", KERNELS)
def test_one_product_on_steps_is_exact(able, kernel):
    """Inputs that the kernel's own rounding leaves alone: only the weights are rounded."""
    module = nn.Linear(256, 24)
    graph = graph_from_module(module.eval(), (torch.zeros(3, 256),))
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.integers(-127, 128, (3, 256)).astype(np.float32))
    x[:, ::16], x[0, 1], x[0, 2] = 127, -127, -128 if kernel == "dynamic-int8" else 0
    (node,) = graph.nodes
    kernels = {node.name: kernel}
    model = lower(graph, kernels, placeholder_encodings(graph, kernels, able), able)
    kind, weight = blockwise(kernel), module.weight.detach().numpy()
    if kind is not None:
        weight = quantize_blocks(weight, kind).dequantize()
    else:
        steps = 2 ** (able.weight_bits - 1) - 1
        scale = np.abs(weight).max(axis=1, keepdims=True) / steps
        weight = np.rint(weight / scale) * scale
    expected = x.double() @ torch.from_numpy(weight).double().T + module.bias.detach()
    assert sqnr_db(expected, answers(model, x).double()) > 100


def test_neighbours_in_int8_and_fp32(graph, able):
    x, nodes = samples(graph), [n.name for n in graph.nodes if n.op in ("Gemm", "MatMul")]
    kernels = dict(zip(nodes, ("nbits-4/32", "int8", "dynamic-int8"), strict=True))
    quantized = quantize(graph, kernels, able, x)
    model = lower(quantized.graph, kernels, quantized.encodings, able)
    assert sqnr_db(outputs(quantized.module, x)[0], answers(model, x)) > 45
    exact = outputs(to_module(graph), x)[0]
    assert sqnr_db(exact, answers(model, x)) > 12


def test_without_fusion_the_add_stays(graph, able):
    kernels = {node.name: "nbits-4/32" for node in graph.nodes}
    apart = replace(able, bias_fused=frozenset())
    encodings = placeholder_encodings(graph, kernels, apart)
    model = lower(graph, kernels, encodings, apart)
    adds = sum(node.op == "Add" for node in graph.nodes)
    assert sum(node.op_type == "Add" for node in model.graph.node) == adds


def test_a_file_of_four_bits_is_a_seventh(able):
    graph = graph_from_module(nn.Linear(1024, 512).eval(), (torch.zeros(1, 1024),))
    kernels = {graph.nodes[0].name: "nbits-4/128"}
    sizes = [
        lower(graph, chosen, placeholder_encodings(graph, chosen, able), able).ByteSize()
        for chosen in ({}, kernels)
    ]
    assert 7.0 < sizes[0] / sizes[1] < 8.0


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_packed_values_can_be_read_back(bits):
    values = np.random.default_rng(0).integers(0, 2**bits, (3, 10)).astype(np.uint8)
    found = packed(values, bits)
    each = 8 // bits
    assert found.shape == (3, -(-10 // each))
    back = [(found[:, i // each] >> (bits * (i % each))) & (2**bits - 1) for i in range(10)]
    np.testing.assert_array_equal(np.stack(back, axis=1), values)


def test_what_is_written_can_be_read_from_disk(graph, able, tmp_path: Path):
    kernels = {node.name: "nbits-8/128" for node in graph.nodes}
    model = lower(graph, kernels, placeholder_encodings(graph, kernels, able), able)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    assert ort.InferenceSession(path, providers=["CPUExecutionProvider"]).get_outputs()
