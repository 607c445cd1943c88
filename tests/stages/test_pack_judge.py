"""What a file is thought to lose, against what it does lose."""

from dataclasses import replace
from math import inf

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from hwprune.errors import UsageError
from hwprune.stages.options import DataOptions
from hwprune.stages.pack_judge import Judge
from hwprune.stages.pack_options import PackOptions
from hwprune.stages.pack_subject import subject

WEIGHTS = np.random.default_rng(0).normal(size=(32, 10)).astype(np.float32)


def linear(values, outputs=("y",)):
    """Ten classes by 32 features."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 32])
    out = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 10]) for name in outputs]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    nodes += [helper.make_node("Relu", ["y"], [name]) for name in outputs[1:]]
    fixed = [numpy_helper.from_array(values.astype(np.float32), "w")]
    opset = [helper.make_opsetid("", 17)]
    graph = helper.make_graph(nodes, "linear", [x], out, fixed)
    return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


@pytest.fixture
def data(tmp_path):
    x = np.random.default_rng(1).normal(size=(6000, 32)).astype(np.float32)
    path = tmp_path / "data.npz"
    np.savez(path, x=x, y=(x @ WEIGHTS).argmax(1))
    return DataOptions(str(path))


def judged(data, outputs=("y",)):
    told = []
    return Judge(subject(linear(WEIGHTS, outputs), PackOptions(data=data)), told.append), told


def test_the_network_itself_loses_nothing(data):
    judge, _ = judged(data)
    assert judge.lost_points(linear(WEIGHTS)) == 0


def test_what_is_lost_and_two_standard_errors(data):
    judge, _ = judged(data)
    other = WEIGHTS + 0.3 * np.random.default_rng(2).normal(size=WEIGHTS.shape)
    x = np.random.default_rng(3).normal(size=(100_000, 32))
    share = ((x @ WEIGHTS).argmax(1) != (x @ other).argmax(1)).mean()
    error = np.sqrt(share * (1 - share) / 5000)
    assert judge.lost_points(linear(other)) == pytest.approx(100 * (share + 2 * error), abs=2.5)
    assert judge.lost_points(linear(other)) > 100 * (share - error)


def test_a_hopeless_file_is_given_up_early(data):
    judge, told = judged(data)
    whole = judge.lost_points(linear(-WEIGHTS), inf)
    looked = len(told)
    assert judge.lost_points(linear(-WEIGHTS), 1.0) == pytest.approx(whole, abs=3)
    assert len(told) == looked + 1
    assert told[-1].startswith("0 of ")
    before = len(told)
    assert judge.lost_points(linear(WEIGHTS), 1.0) == 0
    assert len(told) > before + 1  # what might hold is looked at to the end


def test_without_labels_answers_are_compared(data, tmp_path):
    x = np.load(data.data)["x"]
    np.savez(tmp_path / "plain.npz", x=x)
    judge, _ = judged(replace(data, data=str(tmp_path / "plain.npz")))
    assert judge.lost_points(linear(-WEIGHTS)) == pytest.approx(100, abs=0.5)


def test_what_is_no_classifier_has_no_points(data):
    with pytest.raises(UsageError, match="no classifier"):
        judged(data, ("y", "z"))
