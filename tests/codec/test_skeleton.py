"""Where tensors' bytes stand: what onnx's own parser sees, and the file comes together again."""

from itertools import pairwise

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hwprune.codec.skeleton import Hole, elements, holes, literals
from hwprune.testing.networks import BLOCKS, build_model
from hwprune.testing.specimens import every_form, single

X = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])]
Y = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])]


def floats(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def held(name, shape, seed=0):
    """A tensor whose elements stand in float_data."""
    return helper.make_tensor(name, TensorProto.FLOAT, shape, floats(*shape, seed=seed).ravel())


def branch(name, seed):
    node = helper.make_node("Add", ["x", f"{name}w"], [name])
    weight = numpy_helper.from_array(floats(2, 3, seed=seed), f"{name}w")
    return helper.make_graph(
        [node], name, [], [helper.make_empty_tensor_value_info(name)], [weight]
    )


def nested():
    """Initializers, a Constant, branches of an If with weights of their own, and a function."""
    kept = numpy_helper.from_array(floats(4, 5), "inside")
    body = [helper.make_node("Constant", [], ["k"], value=kept)]
    function = helper.make_function("own", "Kept", [], ["k"], body, [helper.make_opsetid("", 17)])
    yes, no = branch("yes", 1), branch("no", 2)
    nodes = [
        helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(floats(2, 3), "")),
        helper.make_node("If", ["decision"], ["z"], then_branch=yes, else_branch=no),
        helper.make_node("Add", ["z", "c"], ["y"]),
    ]
    fixed = [
        held("floats", (3, 4)),
        helper.make_tensor("doubles", TensorProto.DOUBLE, (2,), [0.5, -1]),
        numpy_helper.from_array(np.array(True), "decision"),
        numpy_helper.from_array(np.zeros((0, 3), np.float32), "empty"),
        numpy_helper.from_array(np.array(3.5, np.float32), "scalar"),
        helper.make_tensor("words", TensorProto.STRING, (2,), [b"some", b"words"]),
        helper.make_tensor("numbers", TensorProto.INT64, (3,), [1, -2, 3]),
    ]
    graph = helper.make_graph(nodes, "nested", X, Y, fixed)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    return helper.make_model(graph, functions=[function], opset_imports=opsets)


def seen(model):
    """Name, type, shape and bytes of all tensors in one piece, by onnx's parser."""
    found = []

    def visit(tensor, name):
        data = tensor.raw_data
        if not data and tensor.data_type == TensorProto.FLOAT:
            data = np.array(tensor.float_data, "<f4").tobytes()
        if not data and tensor.data_type == TensorProto.DOUBLE:
            data = np.array(tensor.double_data, "<f8").tobytes()
        if data:
            found.append((name, tensor.data_type, tuple(tensor.dims), data))

    def walk(nodes, fixed):
        for node in nodes:
            for a in node.attribute:
                if a.type == onnx.AttributeProto.TENSOR:
                    visit(a.t, node.output[0])
                elif a.type == onnx.AttributeProto.GRAPH:
                    walk(a.g.node, a.g.initializer)
        for tensor in fixed:
            visit(tensor, tensor.name)

    walk(model.graph.node, model.graph.initializer)
    for function in model.functions:
        walk(function.node, [])
    return found


MODELS = {
    "nested": nested,
    "every form": lambda: onnx.load_model_from_string(every_form()),
    **{block.__name__: lambda block=block: build_model(block) for block in BLOCKS},
}


@pytest.mark.parametrize("name", MODELS)
def test_holes_are_what_onnx_sees(name):
    model = MODELS[name]()
    data = model.SerializeToString()
    found = holes(data)
    mine = [(h.name, h.kind, h.shape, data[h.start : h.stop]) for h in found]
    assert sorted(mine) == sorted(seen(model))
    assert elements(found) == sum(int(np.prod(shape)) for _, _, shape, _ in seen(model))


@pytest.mark.parametrize("name", MODELS)
def test_literals_and_holes_are_the_file(name):
    data = MODELS[name]().SerializeToString()
    found = holes(data)
    between = literals(data, found)
    parts = [between[0]]
    for hole, literal in zip(found, between[1:], strict=True):
        parts += [data[hole.start : hole.stop], literal]
    assert b"".join(parts) == data
    assert all(a.stop <= b.start for a, b in pairwise(found))


def test_elements_are_read_as_they_are():
    for values in (floats(3, 4), floats(5).astype(np.float16), np.arange(6).reshape(2, 3) - 3):
        data = single(values)
        (hole,) = holes(data)
        np.testing.assert_array_equal(hole.read(data), values)


@pytest.mark.parametrize(
    "kind", [k for k in TensorProto.DataType.values() if k not in (0, TensorProto.STRING)]
)
def test_every_type_is_found(kind):
    data = single(TensorProto(name="w", data_type=kind, dims=[4, 4], raw_data=bytes(range(128))))
    (hole,) = holes(data)
    assert (hole.kind, hole.shape, hole.size) == (kind, (4, 4), 128)
    if hole.dtype is not None:
        assert hole.dtype.itemsize == 8


@pytest.mark.parametrize("kind", [0, 99, TensorProto.STRING, TensorProto.INT4])
def test_types_without_numbers_have_no_dtype(kind):
    assert Hole("w", 0, 8, kind, (8,)).dtype is None


def test_a_shape_that_does_not_fit_is_none_either():
    for shape in ((3, 4), (1 << 62, 1 << 62), ((1 << 64) - 1,)):
        assert Hole("w", 0, 8, TensorProto.FLOAT, shape).dtype is None


def test_a_tensor_in_two_pieces_is_left_where_it_is():
    tensor = numpy_helper.from_array(floats(2, 2), "w").SerializeToString()
    twice = tensor + b"\x4a\x10" + floats(4, seed=1).tobytes()  # raw_data, again
    assert onnx.TensorProto.FromString(twice).raw_data == floats(4, seed=1).tobytes()
    graph = b"\x2a" + bytes([len(twice)]) + twice
    assert holes(b"\x3a" + bytes([len(graph)]) + graph) == []


def test_fields_that_onnx_does_not_know_are_passed_over():
    numbers = b"\xa0\x06\x07" + b"\xa1\x06" + bytes(8) + b"\xa5\x06" + bytes(4)
    unknown = numbers + b"\xa2\x06\x02hi" + b"\xa3\x06\x08\x01\xa4\x06"  # text, and a group
    data = single(floats(3, 3))
    onnx.load_model_from_string(unknown + data)
    (hole,) = holes(unknown + data)
    assert hole.start == holes(data)[0].start + len(unknown)
