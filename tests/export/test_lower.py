from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime as ort
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hwprune.backend import Capabilities
from hwprune.export.lower import lower
from hwprune.graph.read import canonical, clone, read_graph
from hwprune.network.run import outputs
from hwprune.network.twin import to_module
from hwprune.quantize.encodings import Encoding, Encodings
from hwprune.quantize.noise import sqnr_db
from hwprune.quantize.placement import place
from hwprune.quantize.ptq import quantize
from hwprune.testing.networks import (
    Block,
    Builder,
    build,
    dense,
    flat_head,
    projection,
    residual,
    separable,
    shuffled,
    small_networks,
    upsampled,
)

pytestmark = pytest.mark.ort

ALL = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
NONE = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
INTEGER = {"QLinearConv", "QLinearAdd", "QLinearGlobalAveragePool", "QGemm", "QLinearConcat"}
MOVES = {"Flatten", "Transpose", "Reshape", "MaxPool", "NhwcMaxPool"}


def run(
    model: onnx.ModelProto, x: torch.Tensor, level: ort.GraphOptimizationLevel = ALL
) -> list[torch.Tensor]:
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    answers = [session.run(None, {name: sample[None].numpy()}) for sample in x]
    return [torch.cat([torch.from_numpy(a[i]) for a in answers]) for i in range(len(answers[0]))]


def executed(model: onnx.ModelProto, folder: Path) -> Counter[str]:
    """The operators that onnxruntime really runs."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 3
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    graph = gs.import_onnx(onnx.load_model(options.optimized_model_filepath))
    return Counter(node.op for node in graph.nodes)


def everything(graph: gs.Graph) -> dict[str, str]:
    return {node.name: "int8" for node in graph.nodes}


@pytest.mark.parametrize(
    "blocks", [(residual, projection), (separable,), (shuffled,)], ids=lambda b: b[0].__name__
)
def test_int8_network_runs_on_integers_from_end_to_end(
    blocks: tuple[Block, ...], capabilities: Capabilities, images: torch.Tensor, tmp_path: Path
) -> None:
    graph = build(*blocks)
    kernels = everything(graph)
    quantized = quantize(graph, kernels, capabilities, images)
    found = executed(lower(quantized.graph, kernels, quantized.encodings, capabilities), tmp_path)
    assert found.pop("QuantizeLinear") == 1
    assert found.pop("DequantizeLinear") == 1
    convolutions = sum(node.op == "Conv" for node in graph.nodes)
    assert found["QLinearConv"] == convolutions
    assert set(found) <= INTEGER | MOVES


def test_concat_and_maxpool_run_on_integers(
    capabilities: Capabilities, images: torch.Tensor, tmp_path: Path
) -> None:
    b = Builder()
    x = b.relu(b.conv("x", 4))
    pooled = b.add("MaxPool", [x], (4, 8, 8), kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    joined = b.add("Concat", [b.conv(x, 4), pooled], (8, 8, 8), axis=1)
    flat = b.add("Flatten", [b.add("GlobalAveragePool", [joined], (8, 1, 1))], (8, 1, 1))
    y = b.add("Gemm", [flat, b.weight(5, 8), b.vector(5)], (5, 1, 1), transB=1)
    graph = canonical(b.model(y, 5))
    kernels = everything(graph)
    quantized = quantize(graph, kernels, capabilities, images)
    model = lower(quantized.graph, kernels, quantized.encodings, capabilities)
    found = executed(model, tmp_path)
    assert (found["QLinearConcat"], found["NhwcMaxPool"]) == (1, 1)
    assert (found["QuantizeLinear"], found["DequantizeLinear"]) == (1, 1)
    assert sqnr_db(outputs(quantized.module, images)[0], run(model, images)[0]) > 30


def test_mixed_precision_pays_the_planned_boundaries_only(
    capabilities: Capabilities, images: torch.Tensor, tmp_path: Path
) -> None:
    graph = build(residual, head=flat_head)
    conv = [node.name for node in graph.nodes if node.op == "Conv"]
    kernels = {conv[1]: "int8", conv[2]: "int8"}  # the residual branch
    quantized = quantize(graph, kernels, capabilities, images)
    found = executed(lower(quantized.graph, kernels, quantized.encodings, capabilities), tmp_path)
    assert found["QLinearConv"] == 2
    assert (found["QuantizeLinear"], found["DequantizeLinear"]) == (1, 1)


def test_fp32_readers_of_an_fp32_tensor_read_it_unquantised(
    capabilities: Capabilities, images: torch.Tensor
) -> None:
    graph = build(residual)
    inner = [node for node in graph.nodes if node.op == "Conv"][1]
    kernels = {inner.name: "int8"}
    quantized = quantize(graph, kernels, capabilities, images)
    lowered = gs.import_onnx(lower(quantized.graph, kernels, quantized.encodings, capabilities))
    add = next(node for node in lowered.nodes if node.op == "Add")
    assert inner.inputs[0].name in [tensor.name for tensor in add.inputs]


@settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(graph=small_networks(max_blocks=2), data=st.data())
def test_file_and_fake_quantised_twin_agree(
    graph: gs.Graph, data: st.DataObject, capabilities: Capabilities, images: torch.Tensor
) -> None:
    kernels = {n.name: data.draw(st.sampled_from(["fp32", "int8"])) for n in graph.nodes}
    quantized = quantize(graph, kernels, capabilities, images)
    model = lower(quantized.graph, kernels, quantized.encodings, capabilities)
    twin = outputs(quantized.module, images[:8])[0]
    assert sqnr_db(twin, run(model, images[:8], NONE)[0]) > 28  # one step of one tensor may flip
    assert sqnr_db(twin, run(model, images[:8])[0]) > 28


@pytest.mark.parametrize(("scale", "point", "dropped"), [(6 / 255, 0, True), (0.1, 0, False)])
def test_clip_goes_where_the_range_ends_at_its_bounds(
    scale: float, point: int, dropped: bool, capabilities: Capabilities, images: torch.Tensor
) -> None:
    graph = build(separable)
    clip = next(node for node in graph.nodes if node.op == "Clip")
    kernels = everything(graph)
    quantized = quantize(graph, kernels, capabilities, images)
    changed = Encoding(np.asarray(np.float32(scale)), np.asarray(point))
    activations = {**quantized.encodings.activations, clip.outputs[0].name: changed}
    encodings = Encodings(activations, quantized.encodings.weights)
    lowered = gs.import_onnx(lower(quantized.graph, kernels, encodings, capabilities))
    assert ("Clip" not in {node.op for node in lowered.nodes}) == dropped


def test_bias_of_a_dead_channel_survives(capabilities: Capabilities, images: torch.Tensor) -> None:
    graph = build(residual)
    conv = next(node for node in graph.nodes if node.op == "Conv")
    conv.inputs[1].values[2] *= 1e-12
    conv.inputs[2].values[2] = 3.0
    kernels = everything(graph)
    quantized = quantize(graph, kernels, capabilities, images)
    model = lower(quantized.graph, kernels, quantized.encodings, capabilities)
    assert sqnr_db(outputs(to_module(graph), images)[0], run(model, images)[0]) > 25


@pytest.mark.parametrize(("bits", "per_channel"), [(7, True), (8, False)])
def test_what_the_target_states_of_weights_is_kept_to(
    bits: int, per_channel: bool, capabilities: Capabilities, images: torch.Tensor
) -> None:
    graph = build(residual)
    kernels = everything(graph)
    stated = replace(capabilities, weight_bits=bits, per_channel=per_channel)
    quantized = quantize(graph, kernels, stated, images)
    model = lower(quantized.graph, kernels, quantized.encodings, stated)
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    weights = [v for name, v in constants.items() if name.endswith("/weight/integers")]
    scales = [v for name, v in constants.items() if name.endswith("/weight/scale")]
    assert max(int(np.abs(v.astype(int)).max()) for v in weights) == 2 ** (bits - 1) - 1
    assert {v.ndim for v in scales} == {int(per_channel)}
    assert sqnr_db(outputs(quantized.module, images)[0], run(model, images)[0]) > 30


def test_input_graph_is_left_unchanged(capabilities: Capabilities, images: torch.Tensor) -> None:
    graph = build(residual)
    kernels = everything(graph)
    quantized = quantize(graph, kernels, capabilities, images)
    before = clone(quantized.graph)
    lower(quantized.graph, kernels, quantized.encodings, capabilities)
    assert [n.name for n in quantized.graph.nodes] == [n.name for n in before.nodes]
    assert set(quantized.graph.tensors()) == set(before.tensors())


def test_same_input_gives_the_same_bytes(capabilities: Capabilities, images: torch.Tensor) -> None:
    graph = build(dense, upsampled)
    kernels = everything(graph)
    quantized = quantize(graph, kernels, capabilities, images)
    first, second = (
        lower(quantized.graph, kernels, quantized.encodings, capabilities).SerializeToString()
        for _ in range(2)
    )
    assert first == second


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "boundaries"),
    [("cifar10_resnet_large", (1, 1)), ("vww_mobilenetv1_025_96", (1, 1))],
)
def test_reference_networks_run_on_integers(
    name: str,
    boundaries: tuple[int, int],
    shared_data: Path,
    capabilities: Capabilities,
    tmp_path: Path,
) -> None:
    graph = read_graph(shared_data / f"{name}.onnx")
    kernels = everything(graph)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(16, *graph.inputs[0].shape[1:], generator=generator)
    quantized = quantize(graph, kernels, capabilities, x)
    model = lower(quantized.graph, kernels, quantized.encodings, capabilities)
    found = executed(model, tmp_path)
    assert (found.pop("QuantizeLinear"), found.pop("DequantizeLinear")) == boundaries
    assert set(found) <= INTEGER | MOVES
    exact, twin = outputs(to_module(graph), x)[0], outputs(quantized.module, x)[0]
    assert sqnr_db(twin, run(model, x)[0]) > 30
    assert sqnr_db(exact, run(model, x)[0]) > 20


@pytest.mark.shared
def test_face_detector_runs_its_convolutions_on_integers(
    shared_data: Path, capabilities: Capabilities, tmp_path: Path
) -> None:
    graph = read_graph(shared_data / "face_slim_320.onnx")
    kernels = everything(graph)
    assert len(place(graph, kernels, capabilities).nodes) > 50
    x = torch.randn(2, *graph.inputs[0].shape[1:], generator=torch.Generator().manual_seed(0))
    quantized = quantize(graph, kernels, capabilities, x)
    model = lower(quantized.graph, kernels, quantized.encodings, capabilities)
    found = executed(model, tmp_path)
    assert (found["QLinearConv"], found["Conv"]) == (42, 0)
    pairs = zip(outputs(to_module(graph), x), run(model, x), strict=True)
    assert min(sqnr_db(exact, answer) for exact, answer in pairs) > 30
