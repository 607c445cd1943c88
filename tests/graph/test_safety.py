"""Files nobody should trust."""

import contextlib
import os

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, external_data_helper, helper, numpy_helper

from hwprune.errors import HwpruneError, ModelError, UnsafeModelError
from hwprune.graph.read import read_graph
from hwprune.graph.safety import load_checked
from hwprune.testing.networks import build_model, plain


@pytest.fixture
def model():
    return build_model(plain)


def _external(model, folder, location="weights.bin", **changes):
    """Stores one weight outside the file and returns the model's path."""
    tensor = model.graph.initializer[0]
    raw = numpy_helper.to_array(tensor).tobytes()
    (folder / "weights.bin").write_bytes(raw)
    external_data_helper.set_external_data(tensor, location, 0, len(raw))
    tensor.ClearField("raw_data")
    for entry in tensor.external_data:
        entry.value = str(changes.get(entry.key, entry.value))
    return _save(model, folder)


def _save(model, folder):
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_missing_folder_and_empty_files(tmp_path):
    with pytest.raises(ModelError, match="No such file"):
        read_graph(tmp_path / "nothing.onnx")
    with pytest.raises(UnsafeModelError, match="regular file"):
        read_graph(tmp_path)
    (tmp_path / "empty.onnx").touch()
    with pytest.raises(ModelError, match="is empty"):
        read_graph(tmp_path / "empty.onnx")


@pytest.mark.parametrize("content", [b"\xff" * 100, b"not a model", b"\x00"])
def test_other_content(tmp_path, content):
    (tmp_path / "bad.onnx").write_bytes(content)
    with pytest.raises(ModelError):
        read_graph(tmp_path / "bad.onnx")


@given(st.data())
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_damaged_files_give_typed_errors_only(tmp_path_factory, data):
    """Cut anywhere, or any few bytes changed: read or refused, never another exception."""
    raw = bytearray(build_model(plain).SerializeToString())
    cut = data.draw(st.integers(1, len(raw)))
    for _ in range(data.draw(st.integers(0, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("fuzz") / "model.onnx"
    path.write_bytes(bytes(raw if data.draw(st.booleans()) else raw[:cut]))
    with contextlib.suppress(HwpruneError):
        read_graph(path)


def test_external_data_in_the_folder_is_read(model, tmp_path):
    expected = numpy_helper.to_array(model.graph.initializer[0])
    graph = read_graph(_external(model, tmp_path))
    np.testing.assert_array_equal(graph.tensors()["c0"].values, expected)


@pytest.mark.parametrize("location", ["../secret", "a/../../secret", "/etc/passwd", ""])
def test_external_data_outside_is_refused(model, tmp_path, location):
    inside = tmp_path / "model"
    inside.mkdir()
    (tmp_path / "secret").write_bytes(b"0" * 10_000)
    with pytest.raises(UnsafeModelError, match="leaves the model's folder"):
        read_graph(_external(model, inside, location))


@pytest.mark.parametrize("kind", ["symlink", "folder link", "hard link", "fifo"])
def test_external_data_behind_links_is_refused(model, tmp_path, kind):
    inside, outside = tmp_path / "model", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (outside / "secret").write_bytes(b"0" * 10_000)
    location = "link/secret" if kind == "folder link" else "link"
    if kind == "symlink":
        (inside / "link").symlink_to(outside / "secret")
    elif kind == "folder link":
        (inside / "link").symlink_to(outside)
    elif kind == "hard link":
        os.link(outside / "secret", inside / "link")
    else:
        os.mkfifo(inside / "link")
    with pytest.raises(UnsafeModelError, match=r"link|regular file"):
        read_graph(_external(model, inside, location))


@pytest.mark.parametrize(
    "changes", [{"offset": -1}, {"offset": 1 << 40}, {"length": 1 << 50}, {"offset": "x"}]
)
def test_external_ranges_must_lie_in_the_file(model, tmp_path, changes):
    with pytest.raises(ModelError, match=r"reaches beyond|cannot be read"):
        read_graph(_external(model, tmp_path, **changes))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_must_be_finite(model, tmp_path, value):
    weight = numpy_helper.to_array(model.graph.initializer[0]).copy()
    weight.flat[:3] = value
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "c0"))
    with pytest.raises(UnsafeModelError, match="'c0' has 3 of 162"):
        read_graph(_save(model, tmp_path))


HIDING = [
    *(("Add", -np.inf, True), ("Add", np.inf, False), ("Add", np.nan, False)),
    *(("Mul", -np.inf, False), ("Where", -np.inf, True), ("Pad", -np.inf, True)),
    ("Clip", np.inf, True),
]


@pytest.mark.parametrize(("op", "value", "read"), HIDING)
def test_minus_infinity_may_hide_something(tmp_path, op, value, read):
    """Masks of attention and the padding in front of a MaxPool are no damaged weights."""
    many = np.full(4 if op in ("Add", "Mul") else (), value, np.float32)
    weights = {"v": many, "c": np.array(True), "p": np.array([0, 1, 0, 0]), "e": np.zeros((), "f4")}
    inputs = {"Where": ["c", "x", "v"], "Pad": ["x", "p", "v"], "Clip": ["x", "e", "v"]}
    node = helper.make_node(op, inputs.get(op, ["x", "v"]), ["y"], "last")
    used = [numpy_helper.from_array(a, n) for n, a in weights.items() if n in node.input]
    x, y = (
        helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, s])
        for n, s in zip("xy", "ab", strict=True)
    )
    x.type.tensor_type.shape.dim[1].dim_value = 4
    graph = helper.make_graph([node], "g", [x], [y], used)
    path = _save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path)
    if read:
        assert read_graph(path).nodes
    else:
        with pytest.raises(UnsafeModelError, match="'v' has 4 of 4"):
            read_graph(path)


def _branching(*decides, weight=1.0, op="Relu", domain=""):
    """A Gemm whose input one of two branches makes; `decides` compute the condition `c`."""
    out = [helper.make_tensor_value_info("v", TensorProto.FLOAT, None)]
    scale = numpy_helper.from_array(np.full((), weight, np.float32), "scale")
    scaled = helper.make_node("Mul", ["x", "scale"], ["v"], "scaled")
    then = helper.make_graph([scaled], "then", [], out, [scale])
    last = helper.make_graph([helper.make_node(op, ["x"], ["v"], domain=domain)], "else", [], out)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])
    constants = {"w": np.ones((4, 3), np.float32), "four": np.array(4), "one": np.array(1)}
    nodes = [
        *decides,
        helper.make_node("If", ["c"], ["v_1"], "if", then_branch=then, else_branch=last),
        helper.make_node("Gemm", ["v_1", "w"], ["y"], "gemm"),
    ]
    used = {name for node in nodes for name in node.input}
    tensors = [numpy_helper.from_array(a, n) for n, a in constants.items() if n in used]
    graph = helper.make_graph(nodes, "g", [x], [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)


BY_SHAPE = (
    helper.make_node("Shape", ["x"], ["s"]),
    helper.make_node("Gather", ["s", "one"], ["d"]),
    helper.make_node("Equal", ["d", "four"], ["c"]),
)
BY_DATA = (
    helper.make_node("ReduceMax", ["x"], ["m"], keepdims=0),
    helper.make_node("Cast", ["m"], ["c"], to=TensorProto.BOOL),
)


def test_branches_that_shapes_decide_are_taken(tmp_path):
    """As torch's older exporter writes `squeeze`."""
    graph = read_graph(_save(_branching(*BY_SHAPE, weight=2.0), tmp_path))
    assert [n.op for n in graph.nodes] == ["Mul", "Gemm"]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (_branching(*BY_DATA), "'if' .If. is control flow"),
        (_branching(*BY_SHAPE, weight=np.nan), "'scale' has 1 of 1"),
        (_branching(*BY_SHAPE, op="Steal", domain="evil"), "domain 'evil'"),
    ],
)
def test_other_branches_are_refused(model, message, tmp_path):
    with pytest.raises(ModelError, match=message):
        read_graph(_save(model, tmp_path))


def test_size_limit(model, tmp_path):
    path = _save(model, tmp_path)
    assert isinstance(load_checked(path)[0], onnx.ModelProto)
    with pytest.raises(UnsafeModelError, match="the limit is 100"):
        load_checked(path, max_bytes=100)


@pytest.mark.parametrize(
    "change",
    [
        lambda g: g.node[0].input.__setitem__(0, "dangling"),
        lambda g: g.node[1].output.__setitem__(0, g.node[0].output[0]),
        lambda g: g.node[0].__setattr__("op_type", "Nonsense"),
        lambda g: g.initializer[0].dims.__setitem__(0, -6),
        lambda g: g.initializer[0].dims.__setitem__(0, 1 << 40),
        lambda g: g.input[0].type.tensor_type.__setattr__("elem_type", TensorProto.INT8),
    ],
)
def test_inconsistent_graphs_are_refused(model, tmp_path, change):
    change(model.graph)
    with pytest.raises(ModelError):
        read_graph(_save(model, tmp_path))


def test_names_that_are_not_text_are_refused(model, tmp_path):
    raw = _save(model, tmp_path).read_bytes().replace(b"conv0", b"\xff\xfe\xfd\xfc\xfb")
    (tmp_path / "model.onnx").write_bytes(raw)
    with pytest.raises(ModelError):
        read_graph(tmp_path / "model.onnx")


def test_negative_variance_is_refused(model, tmp_path):
    norm = next(node for node in model.graph.node if node.op_type == "BatchNormalization")
    variance = next(t for t in model.graph.initializer if t.name == norm.input[4])
    values = np.full(tuple(variance.dims), -1, np.float32)
    variance.CopyFrom(numpy_helper.from_array(values, norm.input[4]))
    with pytest.raises(ModelError, match="variance"):
        read_graph(_save(model, tmp_path))
