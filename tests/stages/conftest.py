"""A small network on disk, data for it, and the whole compiler on the null target."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import hwprune
from hwprune.testing.networks import Builder, pooled_head

Options = Callable[..., hwprune.CompileOptions]
SHAPE = (3, 12, 12)
SAMPLES = 200


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two residual blocks, a strided convolution and a head of 5 classes; the batch is open."""
    return _written(_network(), tmp_path_factory.mktemp("network") / "small.onnx")


@pytest.fixture(scope="session")
def dense_network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a second output, the features after the first convolution."""
    model = _network()
    features = next(n.output[0] for n in model.graph.node if n.op_type == "Relu")
    shape = ["N", 32, *SHAPE[1:]]
    value = onnx.helper.make_tensor_value_info(features, onnx.TensorProto.FLOAT, shape)
    model.graph.output.append(value)
    return _written(model, tmp_path_factory.mktemp("network") / "dense.onnx")


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inputs without labels."""
    path = tmp_path_factory.mktemp("data") / "images.npz"
    np.savez(path, x=_pixels())
    return path


@pytest.fixture(scope="session")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same inputs with labels."""
    path = tmp_path_factory.mktemp("data") / "labelled.npz"
    np.savez(path, x=_pixels(), y=np.arange(SAMPLES) % 5)
    return path


@pytest.fixture(scope="session")
def ask(network: Path, images: Path) -> Options:
    """`ask(out, "0.4x", **options)`: a compile of the small network that takes seconds."""

    def options(out: Path, budget: str, **more: Any) -> hwprune.CompileOptions:
        usual: dict[str, Any] = {
            "model": str(network),
            "data": str(images),
            "target": "null",
            "shapes": {"x": (1, *SHAPE)},
            "evaluations": 4,
            "out": out,
        }
        return hwprune.CompileOptions(hwprune.parse_budget(budget), **(usual | more))

    return options


def _network() -> onnx.ModelProto:
    b = Builder(0, SHAPE)
    x = b.relu(b.conv("x", 32))
    for _ in range(2):
        x = b.relu(b.sum(b.conv(b.relu(b.conv(x, 48)), 32), x))
    return b.model(pooled_head(b, b.relu(b.conv(x, 64, stride=2))), classes=5)


def _written(model: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def _pixels() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((SAMPLES, *SHAPE)).astype(np.float32)
