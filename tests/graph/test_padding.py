"""Pad in front of a convolution becomes its own padding; every other Pad stays."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from hwprune.graph.read import canonical, to_proto
from hwprune.testing.oracles import parity, run_graph

pytestmark = pytest.mark.ort


def padded(amounts, value=None, op="Conv", mode="constant", axes=None, **attributes):
    """Pad, then a convolution or a pool."""
    constants = {"p": np.array(amounts, np.int64), "w": np.ones((4, 3, 3, 3), np.float32)}
    if value is not None:
        constants["v"] = np.array(value, np.float32)
    if axes is not None:
        constants["a"] = np.array(axes, np.int64)
    names = ["x", "p", "v" if value is not None else "", *(["a"] if axes is not None else [])]
    nodes = [
        helper.make_node("Pad", names, ["b"], "pad", mode=mode),
        helper.make_node(op, ["b", "w"][: 2 if op == "Conv" else 1], ["y"], "next", **attributes),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "c", "h", "w_"])
    used = {name for node in nodes for name in node.input}
    tensors = [numpy_helper.from_array(a, n) for n, a in constants.items() if n in used]
    graph = helper.make_graph(nodes, "g", [x], [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


MERGED = {
    "behind": (padded([0, 0, 0, 0, 0, 0, 1, 1], strides=[2, 2]), [0, 0, 1, 1]),
    "in front": (padded([0, 0, 2, 1, 0, 0, 0, 0], 0.0), [2, 1, 0, 0]),
    "both add up": (padded([0, 0, 1, 1, 0, 0, 1, 1], pads=[1, 0, 0, 1]), [2, 1, 1, 2]),
    "named axes": (padded([1, 0, 2, 3], axes=[-1, 2]), [0, 1, 3, 2]),
    "valid": (padded([0, 0, 1, 0, 0, 0, 0, 1], auto_pad="VALID"), [1, 0, 0, 1]),
}
KEPT = {
    "ones": padded([0, 0, 1, 1, 0, 0, 1, 1], 1.0),
    "mirrored": padded([0, 0, 1, 1, 0, 0, 1, 1], mode="reflect"),
    "cropped": padded([0, 0, -1, 0, 0, 0, 0, 0]),
    "same": padded([0, 0, 1, 1, 0, 0, 1, 1], auto_pad="SAME_UPPER"),
    "a pool": padded([0, 0, 1, 1, 0, 0, 1, 1], op="MaxPool", kernel_shape=[2, 2]),
}


def test_minus_infinity_is_merged_into_a_max_pool():
    model = padded([0, 0, 1, 0, 0, 0, 1, 1], -np.inf, op="MaxPool", kernel_shape=[3, 3])
    graph = canonical(model)
    assert [(n.op, list(n.attrs["pads"])) for n in graph.nodes] == [("MaxPool", [1, 0, 1, 1])]
    _computes_the_same(model, graph)


def test_a_pool_pads_by_less_than_its_size():
    model = padded([0, 0, 2, 0, 0, 0, 0, 0], -np.inf, op="MaxPool", kernel_shape=[2, 2])
    assert [n.op for n in canonical(model).nodes] == ["Pad", "MaxPool"]


@pytest.mark.parametrize(("model", "pads"), MERGED.values(), ids=MERGED)
def test_zeros_are_merged(model, pads):
    graph = canonical(model)
    assert [n.op for n in graph.nodes] == ["Conv"]
    assert list(graph.nodes[0].attrs["pads"]) == pads
    _computes_the_same(model, graph)


@pytest.mark.parametrize("model", KEPT.values(), ids=KEPT)
def test_everything_else_stays(model):
    graph = canonical(model)
    assert next(n.op for n in graph.nodes) == "Pad"
    _computes_the_same(model, graph)


def _computes_the_same(model, graph):
    x = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    np.testing.assert_allclose(run_graph(graph)[0], session.run(None, {"x": x})[0], rtol=1e-5)
    assert parity(graph) < 1e-5
    assert to_proto(graph).graph.output[0].name == "y"
