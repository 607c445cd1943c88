"""The model tests that ship inside the `onnx` package: `light` (weights made by ConstantOfShape)
and `simple`, where all inputs and outputs are tensors of numbers.
"""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from hwprune.graph.read import canonical
from hwprune.network.twin import to_module

pytestmark = pytest.mark.ort
DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
LIGHT = sorted(path.stem for path in (DATA / "light").glob("*.onnx"))
QUICK = ("light_shufflenet", "light_squeezenet", "light_zfnet512")
SIMPLE = ("test_sign_model", "test_single_relu_model", "test_shrink")


def tensor(path):
    proto = onnx.TensorProto()
    proto.ParseFromString(path.read_bytes())
    return numpy_helper.to_array(proto)


def load(path):
    model = onnx.ModelProto()
    model.ParseFromString(path.read_bytes())
    return model


def marked(name):
    return pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)


@pytest.mark.parametrize("name", [marked(name) for name in LIGHT])
def test_light(name):
    graph = canonical(load(DATA / "light" / f"{name}.onnx"))
    shape = graph.inputs[0].shape
    x = (np.arange(np.prod(shape)).reshape(shape) / np.prod(shape)).astype(np.float32)
    with torch.no_grad():
        found = to_module(graph)(torch.from_numpy(x))
    expected = tensor(DATA / "light" / f"{name}_output_0.pb")
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("name", SIMPLE)
def test_simple(name):
    folder = DATA / "simple" / name
    twin = to_module(canonical(load(folder / "model.onnx")))
    for data in sorted(folder.glob("test_data_set_*")):
        inputs = [torch.from_numpy(tensor(p).copy()) for p in sorted(data.glob("input_*.pb"))]
        np.testing.assert_allclose(twin(*inputs).numpy(), tensor(data / "output_0.pb"), rtol=1e-3)
