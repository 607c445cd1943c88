import math
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
import torch

from hwprune.graph.read import clone, to_proto
from hwprune.network.twin import to_module
from hwprune.testing.networks import build, residual
from hwprune.verify.parity import parity

pytestmark = pytest.mark.ort


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def saved(graph: gs.Graph, folder: Path) -> Path:
    onnx.save_model(to_proto(graph), folder / "model.onnx")
    return folder / "model.onnx"


def last_bias(graph: gs.Graph) -> gs.Constant:
    return next(node for node in graph.nodes if node.op == "Gemm").inputs[2]


def test_twin_and_its_own_file_agree(tmp_path: Path, images: torch.Tensor) -> None:
    graph = build(residual)
    found = parity(to_module(graph), saved(graph, tmp_path), images)
    assert list(found.sqnr_db) == ["y"]
    assert found.sqnr_db["y"] > 100
    assert found.max_abs < 1e-4
    assert not found.mismatched


def test_differences_are_measured(tmp_path: Path, images: torch.Tensor) -> None:
    graph = build(residual)
    other = clone(graph)
    last_bias(other).values = last_bias(other).values + np.float32(0.125)
    found = parity(to_module(graph), saved(other, tmp_path), images)
    assert found.max_abs == pytest.approx(0.125, abs=1e-4)
    answers = to_module(graph)(images).detach().double()
    noise = 0.125**2 * answers.numel()
    expected = 10 * math.log10(float(answers.square().sum()) / noise)
    assert found.sqnr_db["y"] == pytest.approx(expected, abs=0.05)
    assert found.max_rel == pytest.approx(0.125 / float(answers.abs().max()), rel=1e-3)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_other_patterns_of_nan_are_flagged(
    value: float, tmp_path: Path, images: torch.Tensor
) -> None:
    graph = build(residual)
    other = clone(graph)
    bias = last_bias(other).values.copy()
    bias[1] = value
    last_bias(other).values = bias
    found = parity(to_module(graph), saved(other, tmp_path), images)
    assert found.mismatched == ("y",)
    assert found.sqnr_db["y"] == -math.inf
    assert found.max_abs < 1e-4  # of what is finite in both


def test_same_nan_in_both_is_no_mismatch(tmp_path: Path, images: torch.Tensor) -> None:
    graph = build(residual)
    bias = last_bias(graph).values.copy()
    bias[1] = np.nan
    last_bias(graph).values = bias
    found = parity(to_module(graph), saved(graph, tmp_path), images)
    assert not found.mismatched
    assert found.sqnr_db["y"] > 100
