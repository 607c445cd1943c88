"""A weight whose outputs have different bits: the file decodes it for one int8 kernel."""

from collections import Counter
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime as ort
import pytest
import torch
from hwprune.backends.cpu import CpuBackend
from onnx.reference import ReferenceEvaluator

from hwprune.backend import Capabilities
from hwprune.errors import UsageError
from hwprune.export.lower import lower
from hwprune.export.placeholder import placeholder_encodings
from hwprune.export.storage import Storage, stored_parts_bytes
from hwprune.graph.cost import output_axis
from hwprune.graph.read import canonical
from hwprune.network.run import outputs
from hwprune.quantize.encodings import levels_of
from hwprune.quantize.noise import sqnr_db
from hwprune.quantize.ptq import quantize
from hwprune.testing.networks import Builder
from hwprune.verify.kernels import products

BITS = np.array([2, 4, 8])
LEVELS = ort.GraphOptimizationLevel


def layers(graph: gs.Graph) -> list[gs.Node]:
    return [n for n in graph.nodes if n.op in ("Conv", "Gemm", "MatMul")]


def network(width: int = 32) -> gs.Graph:
    """Dense, depthwise, grouped and 1x1 convolutions; Gemm both ways round."""
    b = Builder()
    x = b.relu(b.conv("x", width))
    x = b.relu(b.conv(x, width, groups=width))
    x = b.relu(b.conv(x, width + 5, kernel=1))
    x = b.relu(b.conv(b.conv(x, width), width, groups=4))
    x = b.add("Flatten", [b.add("GlobalAveragePool", [x], (width, 1, 1))], (width, 1, 1))
    x = b.relu(b.add("Gemm", [x, b.weight(width, 40), b.vector(40)], (40, 1, 1)))
    x = b.add("Gemm", [x, b.weight(31, 40), b.vector(31)], (31, 1, 1), transB=1)
    return canonical(b.model(x, 31))


def drawn(graph: gs.Graph, seed: int = 0) -> dict[str, tuple[int, ...]]:
    rng = np.random.default_rng(seed)
    sizes = {n.name: n.inputs[1].shape[output_axis(n)] for n in layers(graph)}
    return {name: tuple(rng.choice(BITS, size).tolist()) for name, size in sizes.items()}


def answers(model: onnx.ModelProto, x: torch.Tensor, level: LEVELS) -> torch.Tensor:
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    return torch.cat([torch.from_numpy(session.run(None, {name: s[None].numpy()})[0]) for s in x])


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("ordered", [True, False])
def test_parts_are_decoded_into_their_places(axis: int, ordered: bool) -> None:
    rng = np.random.default_rng(0)
    bits = np.repeat(BITS, 20) if ordered else rng.choice(BITS, 60)
    parts = [(np.flatnonzero(bits == b), levels_of(int(b))) for b in BITS]
    shape = [60, 50] if axis == 0 else [50, 60]
    weights = np.empty(shape, np.int8)
    for index, levels in parts:
        at = (slice(None),) * axis + (index,)
        weights[at] = rng.choice(levels, weights[at].shape)
    graph, x = gs.Graph(opset=13), gs.Variable("x", np.int8, shape)
    stored = Storage(graph).add_parts("w", weights, axis, parts)
    graph.inputs, graph.outputs = [x], [gs.Variable("y", np.int8, shape)]
    graph.nodes.append(gs.Node("Add", "add", {}, [x, stored], graph.outputs))
    model = gs.export_onnx(graph.toposort())
    (found,) = ReferenceEvaluator(model).run(None, {"x": np.zeros(shape, np.int8)})
    np.testing.assert_array_equal(found, weights)
    held = sum(prod(t.dims) for t in model.graph.initializer if len(t.dims) == len(shape))
    assert held == 50 * int((bits == 8).sum())  # the others are packed
    assert ordered != any(n.op_type == "Gather" and n.attribute for n in model.graph.node)


@pytest.mark.ort
def test_one_integer_product_for_each_layer_that_computes_what_the_twin_does(
    capabilities: Capabilities, images: torch.Tensor, tmp_path: Path
) -> None:
    graph = network()
    kernels = {node.name: "int8" for node in graph.nodes}
    bits = drawn(graph)
    quantized = quantize(graph, kernels, capabilities, images, channel_bits=bits)
    weights = quantized.encodings.weights
    assert [weights[n.inputs[1].name].channel_bits for n in layers(graph)] == list(bits.values())
    model = lower(quantized.graph, kernels, quantized.encodings, capabilities)
    assert any(n.op_type == "Concat" for n in model.graph.node)
    twin = outputs(quantized.module, images[:8])[0]
    for level in (LEVELS.ORT_DISABLE_ALL, LEVELS.ORT_ENABLE_ALL):
        assert sqnr_db(twin, answers(model, images[:8], level)) > 35
    plain = quantize(graph, kernels, capabilities, images)
    wide = lower(plain.graph, kernels, plain.encodings, capabilities)
    paths = [tmp_path / "mixed.onnx", tmp_path / "wide.onnx"]
    for path, file in zip(paths, (model, wide), strict=True):
        onnx.save_model(file, path)
    backend = CpuBackend()
    assert products(backend, paths[0]) == (len(layers(graph)), 0)
    executed = [Counter(name.split()[-1] for name in backend.executed(path)) for path in paths]
    assert executed[0] == executed[1]


def test_bits_of_outputs_are_what_their_weights_show(
    capabilities: Capabilities, images: torch.Tensor
) -> None:
    graph = network()
    kernels = {node.name: "int8" for node in graph.nodes}
    bits = drawn(graph, 1)
    quantized = quantize(graph, kernels, capabilities, images, channel_bits=bits)
    for node in layers(quantized.graph):
        encoding = quantized.encodings.weights[node.inputs[1].name]
        integers = encoding.quantize(node.inputs[1].values)
        rows = np.moveaxis(integers, output_axis(node), 0).reshape(len(bits[node.name]), -1)
        ends = 2 ** (np.array(bits[node.name]) - 1) - 1
        assert np.all(np.abs(rows).max(1) <= ends)
        assert np.all(np.abs(rows).max(1) > ends / 3)


@pytest.mark.parametrize("seed", range(3))
def test_foreseen_bytes_are_those_of_the_file(capabilities: Capabilities, seed: int) -> None:
    graph = network(64)
    kernels = {node.name: "int8" for node in graph.nodes}
    bits = drawn(graph, seed)

    def size(channel_bits: dict[str, tuple[int, ...]]) -> int:
        encodings = placeholder_encodings(graph, kernels, capabilities, None, channel_bits)
        return len(lower(graph, kernels, encodings, capabilities).SerializeToString())

    def foreseen(channel_bits: dict[str, tuple[int, ...]]) -> int:
        found = 0
        for node in layers(graph):
            each = prod(node.inputs[1].shape) // len(channel_bits[node.name])
            levels = Counter(len(levels_of(b)) for b in channel_bits[node.name])
            found += stored_parts_bytes(each, levels)
        return found

    full = {name: (8,) * len(each) for name, each in bits.items()}
    missed = (size(bits) - size(full)) - (foreseen(bits) - foreseen(full))
    assert abs(missed) <= 700 + 60 * 2 * len(bits)  # two tables, and a shape for every part


@pytest.mark.parametrize(
    ("bits", "per_channel", "what"),
    [
        ((8,) * 31 + (4,), True, "has 32 outputs, and bits for 33"),
        ((8,) * 31 + (1,), True, "has 1 bits"),
        ((8,) * 31 + (4,), False, "one scale each"),
    ],
)
def test_bits_that_no_output_can_have(
    bits: tuple[int, ...], per_channel: bool, what: str, capabilities: Capabilities,
    images: torch.Tensor,
) -> None:  # fmt: skip
    graph = network()
    kernels = {node.name: "int8" for node in graph.nodes}
    stated = replace(capabilities, per_channel=per_channel)
    given = {layers(graph)[0].name: (*bits, 8) if "33" in what else bits}
    with pytest.raises(UsageError, match=what):
        quantize(graph, kernels, stated, images, channel_bits=given)
