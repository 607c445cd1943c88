from collections import Counter
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime as ort
import pytest
from hwprune.backends.cpu import CpuBackend
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from hwprune.backend import Capabilities
from hwprune.errors import UnsupportedModelError
from hwprune.export.lower import lower
from hwprune.export.placeholder import placeholder_encodings
from hwprune.export.storage import Storage, pack, stored_bytes, word_of
from hwprune.graph.read import canonical, clone
from hwprune.quantize.encodings import Array, Encodings, levels_of
from hwprune.testing.networks import Builder
from hwprune.verify.kernels import products

LEVELS = ort.GraphOptimizationLevel
CODEBOOK = np.array([-60, -21, -9, -2, 3, 11, 25, 63], np.int8)
DECODERS = {"Range", "Reshape", "Div", "Mod", "Gather", "Cast", "Slice"}
NARROW = [(5, None), (4, None), (3, None), (2, None), (1, None), (3, CODEBOOK)]
IDS = ["5 bits", "4 bits", "3 bits", "2 bits", "1 bit", "codebook"]


def every_kind_of_layer(transposed: bool = False) -> gs.Graph:
    """Dense (odd counts, 1x1), depthwise, grouped; Gemm both ways round and MatMul."""
    b = Builder()
    x = b.relu(b.conv("x", 32))
    x = b.relu(b.conv(x, 32, groups=32))
    x = b.relu(b.conv(x, 64, groups=4))
    x = b.relu(b.conv(b.conv(x, 7, kernel=1), 17))
    if transposed:
        size = (17, 8, 8)
        x = b.add("ConvTranspose", [x, b.weight(17, 17, 3, 3), b.vector(17)], size, pads=[1] * 4)
    x = b.add("Flatten", [x], (17 * 64, 1, 1))
    x = b.add("MatMul", [x, b.weight(17 * 64, 33)], (33, 1, 1))
    x = b.relu(b.add("Gemm", [x, b.weight(33, 40), b.vector(40)], (40, 1, 1)))
    x = b.add("Gemm", [x, b.weight(31, 40), b.vector(31)], (31, 1, 1), transB=1)
    return canonical(b.model(x, 31))


def convolutions(width: int, count: int) -> gs.Graph:
    b = Builder()
    x = "x"
    for _ in range(count):
        x = b.relu(b.conv(x, width))
    x = b.add("Flatten", [b.add("GlobalAveragePool", [x], (width, 1, 1))], (width, 1, 1))
    return canonical(b.model(x, width))


def narrow(
    graph: gs.Graph, capabilities: Capabilities, bits: int, codebook: Array | None
) -> Encodings:
    """Made-up encodings with weights of `bits` bits."""
    kernels = {node.name: "int8" for node in graph.nodes}
    made = placeholder_encodings(graph, kernels, replace(capabilities, weight_bits=bits))
    if codebook is None:
        return made
    weights = {
        name: replace(e, codebook=codebook, scale=e.scale * e.highest / codebook[-1])
        for name, e in made.weights.items()
    }
    return Encodings(made.activations, weights)


def plain(graph: gs.Graph, encodings: Encodings) -> tuple[gs.Graph, Encodings]:
    """The same integers, said to have 8 bits."""
    result, wide = clone(graph), {}
    for name, encoding in encodings.weights.items():
        constant = result.tensors()[name]
        integers = encoding.quantize(constant.values)
        assert len(np.unique(integers)) == len(encoding.levels)
        constant.values = encoding.dequantize(integers)
        factor = 127 // max(-encoding.lowest, encoding.highest)  # integers as large as may be
        wide[name] = replace(encoding, bits=8, codebook=None, scale=encoding.scale / factor)
    return result, Encodings(encodings.activations, wide)


def both(
    graph: gs.Graph, capabilities: Capabilities, bits: int, codebook: Array | None = None
) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The file with packed weights, and the one with the same integers as they are."""
    kernels = {node.name: "int8" for node in graph.nodes}
    encodings = narrow(graph, capabilities, bits, codebook)
    wide, wide_encodings = plain(graph, encodings)
    return (
        lower(graph, kernels, encodings, capabilities),
        lower(wide, kernels, wide_encodings, capabilities),
    )


def answers(model: onnx.ModelProto, level: ort.GraphOptimizationLevel) -> Array:
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    x = np.random.default_rng(1).standard_normal((1, 3, 8, 8)).astype(np.float32)
    (found,) = session.run(None, {session.get_inputs()[0].name: x})
    assert len(np.unique(found)) > 5
    return found


def packable(graph: gs.Graph, bits: int, codebook: Array | None) -> int:
    """Layers whose weights take less packed than as they are."""
    levels = len(levels_of(bits) if codebook is None else codebook)
    layers = [n for n in graph.nodes if n.op in ("Conv", "ConvTranspose", "Gemm", "MatMul")]
    sizes = [prod(n.inputs[1].shape) for n in layers]
    return sum(stored_bytes(size, levels) < size for size in sizes)


def saved(model: onnx.ModelProto, path: Path) -> Path:
    onnx.save_model(model, path)
    return path


@pytest.mark.parametrize(
    ("levels", "size", "count"),
    [(2, 1, 8), (3, 1, 5), (6, 1, 3), (7, 2, 5), (15, 1, 2), (16, 1, 2), (31, 2, 3), (63, 1, 1)],
)
def test_a_word_holds_what_its_values_tell_apart(levels: int, size: int, count: int) -> None:
    word = word_of(levels)
    assert (word.bytes, word.count) == (size, count)
    assert levels**count <= 256**size < levels ** (count + 1)


def test_one_bit_is_packed_as_numpy_packs_bits() -> None:
    codes = np.random.default_rng(0).integers(0, 2, (5, 7))
    np.testing.assert_array_equal(pack(codes, 2), np.packbits(codes))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    shape=st.lists(st.integers(1, 9), min_size=2, max_size=4),
    levels=st.sets(st.integers(-127, 127), min_size=2, max_size=40),
    seed=st.integers(0, 99),
)
def test_onnx_decodes_what_was_stored(shape: list[int], levels: set[int], seed: int) -> None:
    ordered = np.array(sorted(levels), np.int8)
    rng = np.random.default_rng(seed)
    weights = rng.choice(ordered, shape)
    graph, x = gs.Graph(opset=13), gs.Variable("x", np.int8, shape)
    storage = Storage(graph)
    graph.inputs = [x]
    first, second = storage.add("first", weights, ordered), storage.add("b", weights, ordered)
    graph.outputs = [gs.Variable(name, np.int8, shape) for name in "yz"]
    for stored, out in zip((first, second), graph.outputs, strict=True):
        graph.nodes.append(gs.Node("Add", out.name, {}, [x, stored], [out]))
    model = gs.export_onnx(graph.toposort())
    for found in ReferenceEvaluator(model).run(None, {"x": np.zeros(shape, np.int8)}):
        np.testing.assert_array_equal(found, weights)


@pytest.mark.ort
@pytest.mark.parametrize(("bits", "codebook"), NARROW, ids=IDS)
def test_packed_weights_compute_the_same_on_the_same_kernels(
    bits: int, codebook: Array | None, capabilities: Capabilities, tmp_path: Path
) -> None:
    packed, wide = both(every_kind_of_layer(), capabilities, bits, codebook)
    for level in (LEVELS.ORT_DISABLE_ALL, LEVELS.ORT_ENABLE_EXTENDED, LEVELS.ORT_ENABLE_ALL):
        np.testing.assert_array_equal(answers(packed, level), answers(wide, level))
    paths = [saved(m, tmp_path / f"{i}.onnx") for i, m in enumerate((packed, wide))]
    backend = CpuBackend()
    assert products(backend, paths[0]) == (8, 0)
    assert Counter(backend.executed(paths[0])) == Counter(backend.executed(paths[1]))
    decoded = sum(node.op_type == "Cast" for node in packed.graph.node)
    assert decoded == packable(every_kind_of_layer(), bits, codebook) >= 6
    assert not any(node.op_type in DECODERS for node in wide.graph.node)


@pytest.mark.ort
@pytest.mark.parametrize(("bits", "codebook"), NARROW, ids=IDS)
def test_transposed_convolutions_decode_too(
    bits: int, codebook: Array | None, capabilities: Capabilities
) -> None:
    precisions = {**capabilities.precisions, "ConvTranspose": frozenset({"int8"})}
    stated = replace(capabilities, precisions=precisions)
    packed, wide = both(every_kind_of_layer(transposed=True), stated, bits, codebook)
    decoded = sum(node.op_type == "Cast" for node in packed.graph.node)
    assert decoded == packable(every_kind_of_layer(transposed=True), bits, codebook) >= 7
    np.testing.assert_array_equal(
        answers(packed, LEVELS.ORT_ENABLE_ALL), answers(wide, LEVELS.ORT_ENABLE_ALL)
    )


@pytest.mark.parametrize("bits", [5, 4, 3, 2, 1])
def test_bytes_on_disk(bits: int, capabilities: Capabilities) -> None:
    graph = convolutions(64, 5)
    weights = sum(prod(node.inputs[1].shape) for node in graph.nodes if node.op == "Conv")
    packed, wide = (len(m.SerializeToString()) for m in both(graph, capabilities, bits))
    stored = packed - (wide - weights)  # all that is in the file for the sake of the weights
    assert stored <= 1.1 * bits * weights / 8


@pytest.mark.parametrize("bits", [5, 4, 3, 2, 1])
def test_foreseen_bytes_are_those_of_the_file(bits: int, capabilities: Capabilities) -> None:
    graph = every_kind_of_layer()
    layers = [n for n in graph.nodes if n.op in ("Conv", "Gemm", "MatMul")]
    packed, wide = (len(m.SerializeToString()) for m in both(graph, capabilities, bits))
    counts, levels = [prod(n.inputs[1].shape) for n in layers], len(levels_of(bits))
    saving = sum(count - stored_bytes(count, levels) for count in counts)
    shared = 350 + 50 * len(layers)  # every layer here has a shape of its own
    assert 0 <= saving - (wide - packed) <= shared


def test_foreseen_bytes_follow_the_channels(capabilities: Capabilities) -> None:
    narrow, wide = (convolutions(width, 3) for width in (32, 48))
    sizes = [len(both(graph, capabilities, 2)[0].SerializeToString()) for graph in (narrow, wide)]
    foreseen = [
        stored_bytes(27 * width, 3, width) + 2 * stored_bytes(9 * width**2, 3, width)
        for width in (32, 48)
    ]
    assert sizes[1] - sizes[0] == pytest.approx(foreseen[1] - foreseen[0], abs=40)


def test_small_weights_stay_as_they_are(capabilities: Capabilities) -> None:
    packed, wide = both(convolutions(4, 2), capabilities, 4)
    assert stored_bytes(4 * 3 * 9, 15) == 4 * 3 * 9
    assert [n.op_type for n in packed.graph.node] == [n.op_type for n in wide.graph.node]


@pytest.mark.ort
def test_files_keep_their_opset_and_would_run_in_opset_13(capabilities: Capabilities) -> None:
    graph = every_kind_of_layer()
    packed, _ = both(graph, capabilities, 2)
    assert [entry.version for entry in packed.opset_import] == [graph.opset]
    expected = answers(packed, LEVELS.ORT_ENABLE_ALL)
    packed.opset_import[0].version = 13
    np.testing.assert_array_equal(answers(packed, LEVELS.ORT_ENABLE_ALL), expected)


def test_an_opset_too_old_is_named(capabilities: Capabilities) -> None:
    graph = convolutions(8, 1)
    graph.opset = 12
    with pytest.raises(UnsupportedModelError, match="opset 12 cannot hold"):
        both(graph, capabilities, 2)
