"""What a probe says of a model is what onnxruntime says of the model with other weights in it."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from hwprune.codec.probe import Probe
from hwprune.testing.specimens import coded_weights, every_form

MODEL = every_form()
X = np.random.default_rng(3).normal(size=(6, 8, 6, 6)).astype(np.float32)


def run(model, *names, x=X):
    """Samples one by one."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    found = [session.run(list(names) or None, {"x": x[i : i + 1]}) for i in range(len(x))]
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]


@pytest.fixture(params=[1, 2])
def probe(request):
    model = onnx.load_model_from_string(MODEL)
    return Probe(model, coded_weights(MODEL), (X,), request.param)


def test_outputs_are_those_of_the_model(probe):
    (true,) = run(onnx.load_model_from_string(MODEL))
    np.testing.assert_allclose(probe.outputs()[0], true, rtol=1e-4, atol=1e-4)


def test_outputs_with_other_weights(probe):
    weights = {w.name: w for w in probe.weights}
    assert weights.keys() == {"conv", "product", "codes"}
    changed = {
        "product": weights["product"].stored(weights["product"].values * 2),
        "codes": weights["codes"].stored(-weights["codes"].values),
    }
    model = onnx.load_model_from_string(MODEL)
    for tensor in model.graph.initializer:
        if tensor.name in changed:
            tensor.CopyFrom(numpy_helper.from_array(changed[tensor.name], tensor.name))
    (true,) = run(model)
    np.testing.assert_allclose(probe.outputs(changed)[0], true, rtol=1e-4, atol=1e-4)
    (before,) = run(onnx.load_model_from_string(MODEL))
    np.testing.assert_allclose(probe.outputs()[0], before, rtol=1e-4, atol=1e-4)


def test_tensors_inside_and_inputs_are_read(probe):
    names = ["x", "c", "d"]
    found = {name: np.concatenate([t[name] for t in probe.read(names)]) for name in names}
    np.testing.assert_array_equal(found["x"], X)
    model = onnx.load_model_from_string(MODEL)
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names[1:])
    for name, true in zip(names[1:], run(model, *names[1:]), strict=True):
        np.testing.assert_allclose(found[name], true, rtol=1e-4, atol=1e-4)


def test_fewer_samples(probe):
    assert probe.batches == 6
    few = probe.on((X[:2],))
    assert few.batches == 2
    np.testing.assert_allclose(few.outputs()[0], probe.outputs()[0][:2], rtol=1e-4, atol=1e-4)


def _batches_of_four():
    """x @ w, four rows at a time."""
    values = np.random.default_rng(0).normal(size=(20, 16)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [4, n])
        for name, n in (("x", 20), ("y", 16))
    )
    fixed = [numpy_helper.from_array(values, "w")]
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(helper.make_graph(nodes, "g", [x], [y], fixed), opset_imports=opset)
    model.ir_version = 8
    return model, values


def test_batches_are_whole_however_few_samples_there_are():
    model, values = _batches_of_four()
    weights = coded_weights(model.SerializeToString())
    rows = np.random.default_rng(1).normal(size=(10, 20)).astype(np.float32)
    few = Probe(model, weights, (rows[:3],))
    np.testing.assert_allclose(few.outputs()[0], rows[[0, 1, 2, 0]] @ values, rtol=1e-5, atol=1e-5)
    many = Probe(model, weights, (rows,))
    assert (few.batches, many.batches, few.on((rows[:8],)).batches) == (1, 3, 2)
    np.testing.assert_allclose(many.outputs()[0][:10], rows @ values, rtol=1e-5, atol=1e-5)


def test_multiplications_of_a_sample(probe):
    weights = {w.name: w for w in probe.weights}
    found = {name: np.concatenate([t[name] for t in probe.read([name])]) for name in ["c", "d"]}
    assert {w.data for w in weights.values()} <= {"x", *found}
    wanted = 6 * 6 * weights["conv"].values.size
    wanted += sum(
        found[w.data].size // len(X) // w.values.shape[0] * w.values.size
        for name, w in weights.items()
        if name != "conv"
    )
    assert probe.multiplications == wanted
    model, _ = _batches_of_four()
    other = Probe(model, coded_weights(model.SerializeToString()), (np.zeros((4, 20), "f4"),))
    assert other.multiplications == 20 * 16


def test_the_model_is_left_as_it_is():
    model = onnx.load_model_from_string(MODEL)
    Probe(model, coded_weights(MODEL), (X,)).outputs()
    assert model.SerializeToString() == MODEL


def test_weights_of_constant_nodes_may_be_exchanged():
    values = np.random.default_rng(0).normal(size=(20, 16)).astype(np.float32)
    nodes = [
        helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(values, "any")),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, n])
        for name, n in (("x", 20), ("y", 16))
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(helper.make_graph(nodes, "g", [x], [y]), opset_imports=opset)
    model.ir_version = 8
    (w,) = coded_weights(model.SerializeToString())
    row = np.random.default_rng(1).normal(size=(3, 20)).astype(np.float32)
    probe = Probe(model, [w], (row,))
    np.testing.assert_allclose(probe.outputs()[0], row @ values, rtol=1e-5, atol=1e-5)
    found = probe.outputs({w.name: w.stored(w.values * 3)})[0]
    np.testing.assert_allclose(found, 3 * row @ values, rtol=1e-5, atol=1e-5)
