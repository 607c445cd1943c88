"""Models of unusual form, packed with loss from end to end."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hwprune.codec.decoder import decode
from hwprune.stages.pack_options import PackOptions
from hwprune.stages.packing import pack


def _linear(batch):
    """One product, of the input itself."""
    values = np.random.default_rng(0).normal(size=(64, 48)).astype(np.float32)
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, n])
        for name, n in (("x", 64), ("y", 48))
    )
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "linear", [x], [y], [numpy_helper.from_array(values, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString(), values


@pytest.mark.parametrize("codec", ["deadzone", "surp", "shac"])
@pytest.mark.parametrize("batch", [1, 700])  # more than there are samples
def test_one_layer(tmp_path, codec, batch):
    model, values = _linear(batch)
    path, out = tmp_path / "m.onnx", tmp_path / "m.hwp"
    path.write_bytes(model)
    report = pack(path, out, PackOptions(codec=codec, rate=6))
    assert report.verdict == "met"
    found = onnx.load_model_from_string(decode(out.read_bytes()).model)
    after = numpy_helper.to_array(found.graph.initializer[0])
    assert np.square(after - values).mean() < 0.02 * np.square(values).mean()
