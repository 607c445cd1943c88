"""Where channels are first and where last, against what onnxruntime makes of the lowered file."""

import random
from pathlib import Path

import onnx
import onnx_graphsurgeon as gs
import onnxruntime as ort
import pytest
import torch

from hwprune.export.lower import lower
from hwprune.graph.coupling import couple
from hwprune.latency.kernels import KernelGraph
from hwprune.plan import Configuration
from hwprune.quantize.ptq import quantize
from hwprune.registry import get_backend
from hwprune.testing import networks

BLOCKS = (
    "bottleneck", "dense", "gated", "option_a", "plain", "projection", "residual", "scaled",
    "separable",
)  # fmt: skip
PLANS = 5


def optimised(graph: gs.Graph, kernels: dict[str, str], folder: Path) -> onnx.GraphProto:
    """What onnxruntime makes of the lowered file."""
    capabilities = get_backend("cpu").capabilities()
    x = torch.randn(16, *graph.inputs[0].shape[1:], generator=torch.Generator().manual_seed(0))
    found = quantize(graph, kernels, capabilities, x)
    file = lower(found.graph, kernels, found.encodings, capabilities).SerializeToString()
    options = ort.SessionOptions()
    options.log_severity_level = 4
    path = folder / "optimised.onnx"
    options.optimized_model_filepath = str(path)
    ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return onnx.load_model(path).graph


def transposes(graph: gs.Graph, kernels: dict[str, str], folder: Path) -> int:
    """Of the optimised file."""
    return sum(n.op_type == "Transpose" for n in optimised(graph, kernels, folder).node)


@pytest.mark.ort
@pytest.mark.parametrize("block", BLOCKS)
def test_transposes_are_those_of_the_optimised_graph(block: str, tmp_path: Path) -> None:
    graph = networks.build(getattr(networks, block), networks.residual, stem=16)
    network = KernelGraph(graph, couple(graph), get_backend("cpu").capabilities())
    able = [s.node for s in network.steps if "int8" in s.precisions]
    products = [s.node for s in network.steps if s.op in ("Conv", "Gemm")]
    draw = random.Random(block)
    for count in (0, *range(1, PLANS)):
        floats = {products[0]} if count == 1 else set(draw.sample(products, min(count, 3)))
        kernels = dict.fromkeys((n for n in able if n not in floats), "int8")
        told = network.kernels({}, frozenset(), kernels)
        found = sum(k.op == "Transpose" for k in told)
        assert found == transposes(graph, kernels, tmp_path), floats


def max_pooled(b: networks.Builder, x: str) -> str:
    x = b.relu(b.conv(x, 16))
    channels, height, width = b.sizes[x]
    size = (channels, height // 2, width // 2)
    x = b.add("MaxPool", [x], size, kernel_shape=[2, 2], strides=[2, 2])
    return b.relu(b.conv(x, 16))


@pytest.mark.ort
@pytest.mark.parametrize("floats", ["none", "before", "behind", "both"])
def test_a_pool_beside_integers_is_computed_on_them(floats: str, tmp_path: Path) -> None:
    """The runtime moves quantisations through it, from either end."""
    graph = networks.build(max_pooled, stem=16)
    network = KernelGraph(graph, couple(graph), get_backend("cpu").capabilities())
    convs = [s.node for s in network.steps if s.op == "Conv"]
    (pool,) = (s.node for s in network.steps if s.op == "MaxPool")
    chosen = {"none": [], "before": [convs[1]], "behind": [convs[2]], "both": convs[1:]}[floats]
    kernels = dict.fromkeys((c for c in convs if c not in chosen), "int8")
    told = network.settled(Configuration(kernels=kernels)).kernels.get(pool, "fp32")
    assert (told == "int8") is pools_integers(optimised(graph, kernels, tmp_path))
    assert (told == "int8") is (floats != "both")


def pools_integers(graph: onnx.GraphProto) -> bool:
    """Whether what its only pool reads comes from a quantisation or an int8 convolution."""
    makes = {name: n for n in graph.node for name in n.output}
    (pool,) = (n for n in graph.node if "MaxPool" in n.op_type)
    source = makes[pool.input[0]]
    while source.op_type == "Transpose":
        source = makes[source.input[0]]
    return source.op_type in ("QuantizeLinear", "QLinearConv")
