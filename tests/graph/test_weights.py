"""Large weights apart from the rest: what may go, and that nothing else changes."""

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, external_data_helper, helper, numpy_helper

from hwprune.errors import ModelError, UnsafeModelError, UsageError
from hwprune.graph import weights
from hwprune.graph.read import canonical, read_graph, read_written, write_graph
from hwprune.graph.weights import LARGE, separable
from hwprune.testing.networks import BLOCKS, HEADS, build_model

SIDE = 128  # a square matrix of LARGE elements


def network(*nodes, weight=None, more=(), output="y"):
    """`nodes` on x (1 x 128) and w (128 x 128)."""
    assert SIDE * SIDE == LARGE
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((SIDE, SIDE)).astype(np.float32) if weight is None else weight
    graph = helper.make_graph(
        [helper.make_node(*node[:3], name=node[2][0], **(node[3:] or ({},))[0]) for node in nodes],
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, SIDE])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [1, SIDE])],
        [numpy_helper.from_array(weight, "w"), *more],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


MATMUL = ("MatMul", ["x", "w"], ["y"])


@pytest.mark.parametrize(
    ("nodes", "apart"),
    [
        ([MATMUL], {"w"}),
        ([MATMUL, ("MatMul", ["y", "w"], ["z"])], {"w"}),
        ([("Transpose", ["w"], ["t"]), ("MatMul", ["x", "t"], ["y"])], set()),
        ([MATMUL, ("ReduceMax", ["w"], ["m"])], set()),
        ([("Constant", [], ["c"], {"value_float": 2.0}), ("Mul", ["w", "c"], ["t"])], set()),
        ([("Relu", ["x"], ["y"])], set()),
    ],
    ids=["read", "read twice", "computed from", "also computed from", "with a constant", "unread"],
)
def test_only_what_nothing_is_computed_from_may_go(nodes, apart):
    assert separable(network(*nodes)) == apart


def test_small_repeated_integer_and_answered_weights_stay():
    assert not separable(network(MATMUL, weight=np.ones((SIDE, SIDE - 1), np.float32)))
    assert not separable(network(MATMUL, weight=np.ones((SIDE, SIDE), np.int64)))
    twice = numpy_helper.from_array(np.zeros(3, np.float32), "w")
    assert not separable(network(MATMUL, more=[twice]))
    assert not separable(network(MATMUL, output="w"))


def assert_equal(graph, other):
    assert [(n.op, n.name, n.attrs) for n in graph.nodes] == [
        (n.op, n.name, n.attrs) for n in other.nodes
    ]
    for a, b in zip(graph.nodes, other.nodes, strict=True):
        assert [t.name for t in (*a.inputs, *a.outputs)] == [
            t.name for t in (*b.inputs, *b.outputs)
        ]
    assert [t.name for t in graph.inputs] == [t.name for t in other.inputs]
    tensors = other.tensors()
    for name, tensor in graph.tensors().items():
        assert type(tensor) is type(tensors[name])
        if isinstance(tensor, gs.Constant):
            np.testing.assert_array_equal(tensor.values, tensors[name].values)
            assert tensor.values.dtype == tensors[name].values.dtype


@given(st.lists(st.sampled_from(BLOCKS), min_size=1, max_size=3), st.sampled_from(HEADS))
@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_reading_is_the_same_with_everything_apart(monkeypatch, blocks, head):
    model = build_model(*blocks, head=head)
    monkeypatch.setattr(weights, "LARGE", 1 << 40)
    together = canonical(model)
    monkeypatch.setattr(weights, "LARGE", 1)
    assert_equal(canonical(model), together)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_written_and_read_again(tmp_path, kind):
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((SIDE, SIDE)).astype(kind)
    model = network(MATMUL, weight=weight)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    write_graph(canonical(model), tmp_path / "canonical.onnx")
    assert (tmp_path / "canonical.onnx").stat().st_size < weight.nbytes / 4
    assert_equal(read_written(tmp_path / "canonical.onnx"), canonical(model))


def external(model, folder, **changes):
    tensor = model.graph.initializer[0]
    raw = numpy_helper.to_array(tensor).tobytes()
    (folder / "w.bin").write_bytes(raw + b"0" * 64)
    external_data_helper.set_external_data(tensor, "w.bin", 0, changes.get("length", len(raw)))
    tensor.ClearField("raw_data")
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder / "model.onnx"


def test_external_weights_become_arrays(tmp_path):
    model = network(MATMUL)
    expected = numpy_helper.to_array(model.graph.initializer[0])
    found = read_graph(external(model, tmp_path)).tensors()["w"].values
    np.testing.assert_array_equal(found, expected)
    assert found.flags.writeable


@pytest.mark.parametrize("length", [4, SIDE * SIDE * 4 + 64])
def test_external_weights_must_fit_their_shape(tmp_path, length):
    with pytest.raises(ModelError, match=rf"'w' has {length} bytes, its shape \[128, 128\] needs"):
        read_graph(external(network(MATMUL), tmp_path, length=length))


def test_large_weights_must_be_finite_and_fit_their_nodes(tmp_path):
    weight = np.ones((SIDE, SIDE), np.float32)
    weight[3, :7] = np.nan
    with pytest.raises(UnsafeModelError, match="'w' has 7 of 16384"):
        canonical(network(MATMUL, weight=weight))
    with pytest.raises(ModelError):
        canonical(network(MATMUL, weight=np.ones((2 * SIDE, SIDE), np.float32)))


def test_a_constant_of_the_same_name_is_not_the_weight(tmp_path):
    """An attribute's tensor may be called like an initializer."""
    inner = numpy_helper.from_array(np.full((1, SIDE), 2, np.float32), "w")
    raw = numpy_helper.to_array(inner).tobytes()
    (tmp_path / "w.bin").write_bytes(raw)
    external_data_helper.set_external_data(inner, "w.bin", 0, len(raw))
    inner.ClearField("raw_data")
    model = network(
        ("Constant", [], ["c"], {"value": inner}), (*MATMUL[:2], ["z"]), ("Add", ["z", "c"], ["y"])
    )
    expected = numpy_helper.to_array(model.graph.initializer[0])
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    graph = read_graph(tmp_path / "model.onnx")
    np.testing.assert_array_equal(graph.tensors()["w"].values, expected)
    found = [t.values for t in graph.tensors().values() if isinstance(t, gs.Constant)]
    assert any((values == 2).all() for values in found)


@pytest.mark.parametrize("listed", [False, True])
def test_weights_are_no_inputs_to_give_shapes_for(listed):
    model = network(MATMUL)
    if listed:
        model.ir_version = 3
        model.graph.input.append(
            helper.make_tensor_value_info("w", TensorProto.FLOAT, [SIDE, SIDE])
        )
    assert [t.name for t in canonical(model).inputs] == ["x"]
    with pytest.raises(UsageError, match="no input 'w'") as error:
        canonical(model, {"w": (SIDE, SIDE)})
    assert error.value.hint == "its inputs are x"


def test_the_model_itself_is_left_as_it_is():
    model = network(MATMUL)
    before = model.SerializeToString()
    canonical(model)
    assert model.SerializeToString() == before
    assert isinstance(model, onnx.ModelProto)


def test_weights_that_reading_made_are_written_too(tmp_path):
    """A large weight that BatchNormalization was folded into has never been an input."""
    rng = np.random.default_rng(0)
    arrays = {
        "w": rng.standard_normal((64, 64, 2, 2)).astype(np.float32),
        **{name: np.ones(64, np.float32) for name in ("s", "b", "m", "v")},
    }
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["c"], name="c"),
            helper.make_node("BatchNormalization", ["c", "s", "b", "m", "v"], ["y"], name="n"),
        ],
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64, 3, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 64, 2, 2])],
        [numpy_helper.from_array(a, n) for n, a in arrays.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    before = canonical(helper.make_model(graph, opset_imports=opset, ir_version=8))
    weight = before.nodes[0].inputs[1].values.copy()
    write_graph(before, tmp_path / "written.onnx")
    after = read_written(tmp_path / "written.onnx")
    np.testing.assert_array_equal(after.nodes[0].inputs[1].values, weight)
