"""Which tensors may lose something, and integers that stay integers."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hwprune.codec.deadzone import quantize
from hwprune.codec.decoder import decode
from hwprune.codec.dials import DeadZone
from hwprune.codec.skeleton import holes
from hwprune.testing.specimens import coded_weights, every_form


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def model_of(nodes, **tensors):
    fixed = [numpy_helper.from_array(values, name) for name, values in tensors.items()]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("x", "y")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], fixed)
    opsets = [helper.make_opsetid("", 21)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


def node(op, *names, **attributes):
    return helper.make_node(op, names[:-1], names[-1:], **attributes)


def dequantised(model, name, scale, zero):
    """Real values of integers, by hand."""
    tensors = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    steps, shift, whole = (tensors[n].astype(np.float32) for n in (scale, zero, name))
    along = [steps.size, 1, 1, 1]
    return (whole - shift.reshape(along)) * steps.reshape(along)


QDQ = {
    "for all": {"w_scale": np.array(0.01, np.float32)},
    "for every output": {"w_scale": np.linspace(0.01, 0.03, 30, dtype=np.float32)},
}


def qdq(scales, kind=np.int8, zero=0):
    """A convolution of integers that are made real first."""
    rng = np.random.default_rng(1)
    whole = np.rint(rng.laplace(0, 20, (30, 8, 3, 3))).clip(-100, 100) + zero
    zeros = np.full_like(scales["w_scale"], zero).astype(kind)
    nodes = [
        node("DequantizeLinear", "w", "w_scale", "w_zero", "real", axis=0),
        node("Conv", "x", "real", "y"),
    ]
    return model_of(nodes, w=whole.astype(kind), w_zero=zeros, **scales)


@pytest.mark.parametrize("name", QDQ)
@pytest.mark.parametrize(("kind", "zero"), [(np.int8, 0), (np.uint8, 128)])
def test_integers_stay_integers_and_near(name, kind, zero):
    model = qdq(QDQ[name], kind, zero)
    (weight,) = coded_weights(model)
    before = onnx.load_model_from_string(model)
    true = dequantised(before, "w", "w_scale", "w_zero")
    np.testing.assert_allclose(weight.values.reshape(true.shape), true, rtol=1e-6)
    whole = next(numpy_helper.to_array(t) for t in before.graph.initializer if t.name == "w")
    np.testing.assert_array_equal(weight.stored(weight.values), whole)
    step = 0.1
    found = DeadZone(model, [weight], {weight.index: step}).at(7 / 11)  # a factor of 1
    after = onnx.load_model_from_string(decode(found.file).model)
    tensor = next(t for t in after.graph.initializer if t.name == "w")
    assert tensor.data_type == helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    real = dequantised(after, "w", "w_scale", "w_zero")
    [own] = quantize([weight], {weight.index: step}, {})
    wanted = own.values.reshape(real.shape)
    assert np.abs(real - wanted).max() <= 0.5 * QDQ[name]["w_scale"].max() * 1.001
    assert 0 < np.square(real - true).mean() < step**2
    assert len(found.file) < 0.85 * len(DeadZone(model, [], {}).at(0).file)


def test_integers_of_a_quantised_product():
    rng = np.random.default_rng(2)
    whole = rng.integers(-100, 100, (20, 30)).astype(np.int8)
    names = ["x", "xs", "xz", "w", "w_scale", "w_zero", "ys", "xz", "y"]
    scales = {n: np.array(0.1, np.float32) for n in ("xs", "w_scale", "ys")}
    zeros = {n: np.array(0, np.int8) for n in ("xz", "w_zero")}
    (weight,) = coded_weights(model_of([node("QLinearMatMul", *names)], w=whole, **scales, **zeros))
    np.testing.assert_allclose(weight.values[:, :, 0], whole * np.float32(0.1), rtol=1e-6)


def names(model):
    return [weight.name for weight in coded_weights(model)]


def test_those_that_multiply():
    assert names(every_form()) == ["conv", "product", "codes"]
    found = {w.name: w for w in coded_weights(every_form())}
    assert found["conv"].values.shape == (24, 8, 9)
    assert found["conv"].attributes["kernel_shape"] == (3, 3)
    assert found["codes"].grid.zero == 0
    assert found["codes"].grid.axis == 0
    true = holes(every_form())[found["product"].index].read(every_form())
    np.testing.assert_array_equal(found["product"].values[:, :, 0], true)


W, HALF = normal(20, 30), normal(20, 30).astype(np.float16)
KEPT = {
    "a small one": ([node("MatMul", "x", "w", "y")], {"w": normal(5, 5)}),
    "the left one of a product": ([node("MatMul", "w", "x", "y")], {"w": W}),
    "a sum": ([node("Add", "x", "w", "y")], {"w": W}),
    "a product and a sum": (
        [node("MatMul", "x", "w", "z"), node("Add", "z", "w", "y")],
        {"w": W},
    ),
    "a vector": ([node("MatMul", "x", "w", "y")], {"w": normal(600)}),
    "numbers that are not finite": (
        [node("MatMul", "x", "w", "y")],
        {"w": np.where(W > 2, np.float32(np.inf), W)},
    ),
    "doubles": ([node("MatMul", "x", "w", "y")], {"w": W.astype(np.float64)}),
    "integers as they are": ([node("MatMul", "x", "w", "y")], {"w": np.ones((20, 30), np.int8)}),
    "a scale that is computed": (
        [
            node("Abs", "s", "t"),
            node("DequantizeLinear", "w", "t", "z"),
            node("MatMul", "x", "z", "y"),
        ],
        {"w": np.ones((20, 30), np.int8), "s": np.array(1, np.float32)},
    ),
    "zero points that differ": (
        [
            node("DequantizeLinear", "w", "s", "o", "z", axis=0),
            node("MatMul", "x", "z", "y"),
        ],
        {
            "w": np.ones((20, 30), np.int8),
            "s": np.ones(20, np.float32),
            "o": np.arange(20).astype(np.int8),
        },
    ),
    "integers that two read": (
        [
            node("DequantizeLinear", "w", "s", "z"),
            node("MatMul", "x", "z", "a"),
            node("Cast", "w", "b", to=1),
            node("Add", "a", "b", "y"),
        ],
        {"w": np.ones((20, 30), np.int8), "s": np.array(1, np.float32)},
    ),
}


@pytest.mark.parametrize("name", KEPT)
def test_others_are_kept(name):
    nodes, tensors = KEPT[name]
    assert names(model_of(nodes, **tensors)) == []


@pytest.mark.parametrize(
    "nodes",
    [
        [node("MatMul", "x", "w", "y")],
        [node("Gemm", "x", "w", "y", transB=1)],
        [node("MatMul", "x", "w", "z"), node("MatMul", "z", "w", "y")],
    ],
)
def test_these_may_lose_something(nodes):
    for values in (W, HALF):
        (weight,) = coded_weights(model_of(nodes, w=values))
        assert weight.dtype == str(values.dtype)
        assert weight.stored(weight.values).tobytes() == values.tobytes()


def test_weights_in_branches_are_kept():
    """Somebody multiplies by what an If puts out, which is no weight."""
    inside = numpy_helper.from_array(W, "inside")
    empty = helper.make_empty_tensor_value_info("out")
    body = helper.make_graph([node("Identity", "inside", "out")], "b", [], [empty], [inside])
    nodes = [
        helper.make_node("If", ["c"], ["w"], then_branch=body, else_branch=body),
        node("MatMul", "x", "w", "y"),
    ]
    assert names(model_of(nodes, c=np.array(True))) == []
