"""A small classifier on disk, and the command line in this process."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import TensorProto, helper, numpy_helper

from hwprune.cli.app import app

Run = Callable[..., Result]


@pytest.fixture
def hwprune(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`hwprune("compile", path, ...)`, run in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    """Two convolutions and a Gemm on 3 x 8 x 8 images, 4 classes."""
    return write_classifier(tmp_path / "small.onnx", 1)


@pytest.fixture
def open_batch(tmp_path: Path) -> Path:
    """The same with a batch of unknown size."""
    return write_classifier(tmp_path / "open.onnx", "n")


def write_classifier(path: Path, batch: int | str) -> Path:
    rng = np.random.default_rng(0)
    shapes = {"w1": (16, 3, 3, 3), "w2": (16, 16, 3, 3), "w3": (4, 16), "b3": (4,)}
    weights = {n: rng.normal(size=s).astype(np.float32) / 4 for n, s in shapes.items()}
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], name="conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], name="conv2", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c2"], ["r2"], name="relu2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["y"], name="fc", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 4])],
        [numpy_helper.from_array(w, n) for n, w in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    onnx.checker.check_model(model)
    return path
