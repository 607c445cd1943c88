from pathlib import Path

import onnx
import pytest
from hwprune.backends.cpu import CpuBackend

from hwprune.export.lower import lower
from hwprune.export.placeholder import placeholder_encodings
from hwprune.graph.read import to_proto
from hwprune.testing.networks import build, residual
from hwprune.verify.kernels import products

pytestmark = pytest.mark.ort


@pytest.mark.parametrize(("quantised", "found"), [(0, (0, 4)), (2, (2, 2)), (4, (4, 0))])
def test_products_are_counted_as_the_runtime_runs_them(
    quantised: int, found: tuple[int, int], tmp_path: Path
) -> None:
    graph, backend = build(residual), CpuBackend()
    layers = [node.name for node in graph.nodes if node.op in ("Conv", "Gemm")]
    kernels = dict.fromkeys(layers[:quantised], "int8")
    encodings = placeholder_encodings(graph, kernels, backend.capabilities())
    model = lower(graph, kernels, encodings, backend.capabilities()) if kernels else to_proto(graph)
    onnx.save_model(model, tmp_path / "model.onnx")
    assert products(backend, tmp_path / "model.onnx") == found
