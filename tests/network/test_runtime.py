"""Operators without a torch twin are run by onnxruntime, and the rest is compiled."""

import copy

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from hwprune.errors import UnsupportedModelError
from hwprune.graph.coupling import couple
from hwprune.graph.read import canonical, to_proto
from hwprune.graph.slim import slim
from hwprune.network.operators import untranslated
from hwprune.network.twin import to_module
from hwprune.testing.oracles import disagreement, parity

pytestmark = pytest.mark.ort
STEPS, BANDS, HIDDEN = 6, 5, 4


def constant(name, *shape, low=-0.5):
    rng = np.random.default_rng(sum(map(ord, name)))
    return numpy_helper.from_array(rng.uniform(low, 0.5, shape).astype(np.float32), name)


def model(nodes, constants, shape, classes=3, opset=17):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [shape[0], classes])
    graph = helper.make_graph(nodes, "g", [x], [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def recurrent():
    """Convolutions, a GRU over time, a layer in front of the output."""
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], "conv0", pads=[1, 1]),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("Conv", ["b", "w1"], ["c"], "conv1", pads=[1, 1]),
        helper.make_node("Transpose", ["c"], ["d"], "time_first", perm=[2, 0, 1]),
        helper.make_node("GRU", ["d", "w", "r", "", "", "h"], ["", "e"], "gru", hidden_size=HIDDEN),
        helper.make_node("Squeeze", ["e", "zero"], ["f"], "squeeze"),
        helper.make_node("Gemm", ["f", "v"], ["g"], "hidden"),
        helper.make_node("Gemm", ["g", "u"], ["y"], "head"),
    ]
    constants = [
        constant("w0", 8, BANDS, 3),
        constant("w1", 6, 8, 3),
        constant("w", 1, 3 * HIDDEN, 6),
        constant("r", 1, 3 * HIDDEN, HIDDEN),
        constant("h", 1, 1, HIDDEN),
        numpy_helper.from_array(np.array([0], np.int64), "zero"),
        constant("v", HIDDEN, 7),
        constant("u", 7, 3),
    ]
    return canonical(model(nodes, constants, [1, BANDS, STEPS]))


def warped():
    """A grid of places, made by the network, is looked up in its own features."""
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], "conv0", pads=[1] * 4),
        helper.make_node("Conv", ["a", "w1"], ["b"], "places", pads=[1] * 4),
        helper.make_node("Transpose", ["b"], ["c"], "last", perm=[0, 2, 3, 1]),
        helper.make_node("GridSample", ["a", "c"], ["d"], "sample"),
        helper.make_node("GlobalAveragePool", ["d"], ["e"], "pool"),
        helper.make_node("Flatten", ["e"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "v"], ["g"], "hidden"),
        helper.make_node("Gemm", ["g", "u"], ["y"], "head"),
    ]
    constants = [
        constant("w0", 6, 2, 3, 3),
        constant("w1", 2, 6, 3, 3),
        constant("v", 6, 5),
        constant("u", 5, 3),
    ]
    return canonical(model(nodes, constants, [1, 2, 6, 6]))


CASES = {
    "GRU": (recurrent, "gru", {8, 7, 6, HIDDEN}, "graph output"),
    "GridSample": (warped, "sample", {5, 6}, "'sample' reads places from it"),
}


@pytest.mark.parametrize(("build", "node", "free", "reason"), CASES.values(), ids=CASES)
def test_the_rest_of_the_network_can_be_pruned(build, node, free, reason):
    graph = build()
    assert list(untranslated(graph)) == [node]
    coupling = couple(graph)
    assert {g.width for g in coupling.prunable} == free
    reasons = " ".join(g.frozen for g in coupling.groups if g.frozen)
    assert reason in reasons
    keep = {g.name: range(0, g.width, 2) for g in coupling.prunable}
    assert disagreement(graph, coupling, keep) < 1e-6
    assert parity(slim(graph, coupling, keep)) < 1e-5


@pytest.mark.parametrize("build", [recurrent, warped])
def test_any_batch_is_what_the_samples_are_one_by_one(build):
    graph = build()
    twin = copy.deepcopy(to_module(graph))
    x = torch.randn(5, *graph.inputs[0].shape[1:])
    session = onnxruntime.InferenceSession(to_proto(graph).SerializeToString())
    single = np.concatenate([session.run(None, {"x": one[None].numpy()})[0] for one in x])
    np.testing.assert_allclose(twin(x).detach().numpy(), single, atol=1e-5)


def test_no_gradient_goes_back_through_it():
    twin = to_module(recurrent())
    twin(torch.randn(2, BANDS, STEPS)).sum().backward()
    trained = {name for name, p in twin.named_parameters() if p.grad is not None}
    assert trained == {"hidden.weight", "head.weight"}


def test_what_nobody_runs_is_named():
    """GRU of bidirectional weights in one direction: onnxruntime refuses it at once."""
    graph = recurrent()
    next(node for node in graph.nodes if node.op == "GRU").attrs["direction"] = "sideways"
    with pytest.raises(UnsupportedModelError, match=r"'gru'.*neither torch nor onnxruntime"):
        to_module(graph)


def test_the_table_of_operators_is_torch_only():
    with pytest.raises(UnsupportedModelError, match="no torch twin"):
        to_module(recurrent(), runtime=False)


def test_a_plain_network_has_none():
    node = helper.make_node("Gemm", ["x", "w"], ["y"], "only")
    assert not untranslated(canonical(model([node], [constant("w", 4, 3)], [1, 4])))
