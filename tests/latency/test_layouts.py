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
from hwprune.quantize.ptq import quantize
from hwprune.registry import get_backend
from hwprune.testing import networks

BLOCKS = (
    "bottleneck", "dense", "gated", "option_a", "plain", "projection", "residual", "scaled",
    "separable",
)  # fmt: skip
PLANS = 5


def transposes(graph: gs.Graph, kernels: dict[str, str], folder: Path) -> int:
    """Of the optimised file."""
    capabilities = get_backend("cpu").capabilities()
    x = torch.randn(16, *graph.inputs[0].shape[1:], generator=torch.Generator().manual_seed(0))
    found = quantize(graph, kernels, capabilities, x)
    file = lower(found.graph, kernels, found.encodings, capabilities).SerializeToString()
    options = ort.SessionOptions()
    options.log_severity_level = 4
    optimised = folder / "optimised.onnx"
    options.optimized_model_filepath = str(optimised)
    ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return sum(n.op_type == "Transpose" for n in onnx.load_model(optimised).graph.node)


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
