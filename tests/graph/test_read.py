"""The canonical graph: same function as the file, and the promised form."""

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from hwprune.errors import ModelError, UnsupportedModelError, UsageError
from hwprune.graph.read import canonical, clone, read_graph, to_proto
from hwprune.network.twin import to_module
from hwprune.testing.networks import BLOCKS, HEADS, build, build_model, plain, residual
from hwprune.testing.node_suite import node_tests

SHARED_FILES = (
    "cifar10_resnet8",
    "cifar10_resnet_large",
    "vww_mobilenetv1_025_96",
    "vit_mnist",
    "face_slim_320",
)


def _run(model, feeds):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, feeds)


def _assert_same_function(model, graph, rtol=1e-4):
    rng = np.random.default_rng(0)
    feeds = {t.name: rng.standard_normal(t.shape).astype(np.float32) for t in graph.inputs}
    for a, b in zip(_run(model, feeds), _run(to_proto(graph), feeds), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * float(np.abs(a).max()))


def _assert_canonical(graph):
    tensors = graph.tensors(check_duplicates=True)
    names = [node.name for node in graph.nodes]
    assert all(names)
    assert len(set(names)) == len(names)
    assert not {node.op for node in graph.nodes} & {"Constant", "Identity", "Dropout", "Shape"}
    for tensor in tensors.values():
        assert all(isinstance(size, int) for size in tensor.shape), tensor.name
        assert tensor.dtype is not None
    seen = {tensor.name for tensor in graph.inputs}
    for node in graph.nodes:
        read = {t.name for t in node.inputs if isinstance(t, gs.Variable) and not t.is_empty()}
        assert read <= seen
        seen |= {tensor.name for tensor in node.outputs}


@pytest.mark.ort
@pytest.mark.shared
@pytest.mark.parametrize("name", SHARED_FILES)
def test_files_keep_their_function(shared_data, name):
    path = shared_data / f"{name}.onnx"
    graph = read_graph(path)
    _assert_canonical(graph)
    assert "BatchNormalization" not in {node.op for node in graph.nodes}
    _assert_same_function(onnx.load(str(path)), graph)  # noqa: TID251


@pytest.mark.ort
@given(
    st.lists(st.sampled_from(BLOCKS), min_size=1, max_size=4),
    st.sampled_from(HEADS),
    st.integers(0, 99),
)
@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_random_networks_keep_their_function(blocks, head, seed):
    model = build_model(*blocks, head=head, seed=seed)
    graph = canonical(model)
    _assert_canonical(graph)
    _assert_same_function(model, graph)


class _Exported(nn.Module):
    """Option A, dropout, BN behind every layer kind, and a functional flatten."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8))
        self.body = nn.Sequential(nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16))
        self.up = nn.Sequential(nn.ConvTranspose2d(16, 8, 2, groups=2), nn.BatchNorm2d(8))
        self.head = nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.Dropout(), nn.Linear(6, 4))

    def forward(self, x):
        x = torch.relu(self.stem(x))
        short = nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4))
        x = self.up(torch.relu(self.body(x) + short))
        return self.head(x.mean((2, 3)))


@pytest.mark.ort
def test_torch_export_comes_out_clean():
    torch.manual_seed(0)
    module = _Exported()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm1d):
            nn.init.uniform_(layer.running_mean, -1, 1)
            layer.running_var.uniform_(0.5, 2)
            nn.init.uniform_(layer.weight, 0.5, 2)
            nn.init.uniform_(layer.bias, -1, 1)
    x = torch.randn(1, 3, 8, 8)
    program = torch.onnx.export(module.eval(), (x,), dynamo=True, optimize=False, verbose=False)
    graph = canonical(program.model_proto)
    _assert_canonical(graph)
    ops = {node.op for node in graph.nodes}
    assert ops == {"Conv", "ConvTranspose", "Gemm", "Relu", "Add", "Slice", "Pad", "ReduceMean"}
    (y,) = _run(to_proto(graph), {graph.inputs[0].name: x.numpy()})
    np.testing.assert_allclose(y, module(x).detach().numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.ort
def test_batch_is_bound():
    graph = canonical(build_model(residual), batch=4)
    assert graph.inputs[0].shape == [4, 3, 8, 8]
    assert graph.outputs[0].shape == [4, 5]
    with pytest.raises(UsageError, match="fixed batch of 1"):
        canonical(to_proto(build(residual)), batch=4)


def _with_input(dims):
    x = helper.make_tensor_value_info("image", TensorProto.FLOAT, dims)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, dims)
    node = helper.make_node("Relu", ["image"], ["y"], name="relu")
    graph = helper.make_graph([node], "g", [x], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_dynamic_shape_asks_for_it_by_name():
    with pytest.raises(UsageError) as caught:
        canonical(_with_input(["N", 3, "height", "width"]))
    assert "--shape image=1,3,32,32" in caught.value.hint
    graph = canonical(_with_input(["N", 3, "h", "w"]), {"image": (2, 3, 5, 7)})
    assert graph.outputs[0].shape == [2, 3, 5, 7]


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"picture": (1, 3, 8, 8)}, "no input 'picture'"),
        ({"image": (1, 4, 8, 8)}, "is Nx3xhxw, not 1,4,8,8"),
        ({"image": (1, 3, 8)}, "is Nx3xhxw"),
        ({"image": (1, 3, 0, 8)}, "is Nx3xhxw"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(shapes, message):
    with pytest.raises(UsageError, match=message):
        canonical(_with_input(["N", 3, "h", "w"]), shapes)


def test_shapes_that_depend_on_data_are_refused():
    model = _with_input([1, 4])
    model.graph.node[0].output[0] = "relu"
    model.graph.node.append(helper.make_node("NonZero", ["relu"], ["y"], name="where"))
    model.graph.output[0].CopyFrom(
        helper.make_tensor_value_info("y", TensorProto.INT64, [2, "count"])
    )
    with pytest.raises(ModelError, match="depends on the data"):
        canonical(model)


def test_initializers_listed_as_inputs_are_no_inputs():
    model = build_model(plain)
    for tensor in model.graph.initializer:
        value = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        model.graph.input.append(value)
    assert [tensor.name for tensor in canonical(model).inputs] == ["x"]


@pytest.mark.ort
@pytest.mark.parametrize("opset", range(11, onnx.defs.onnx_opset_version() + 1))
def test_every_opset_is_read(opset):
    model = build_model(plain, residual)
    feeds = {"x": np.ones((1, 3, 8, 8), np.float32)}
    expected = _run(model, feeds)
    model.opset_import[0].version = opset
    graph = canonical(model)
    _assert_canonical(graph)
    assert 17 <= graph.opset <= 26
    np.testing.assert_allclose(_run(to_proto(graph), feeds)[0], expected[0], rtol=1e-4)
    with torch.no_grad():
        found = to_module(graph)(torch.ones(1, 3, 8, 8)).numpy()
    np.testing.assert_allclose(found, expected[0], rtol=1e-4)


def test_weights_in_constant_nodes_are_weights():
    model = build_model(plain, residual)
    plainly = canonical(model)
    nodes = [
        helper.make_node("Constant", [], [t.name], f"make_{t.name}", value=t)
        for t in model.graph.initializer
    ]
    del model.graph.initializer[:]
    for node in reversed(nodes):
        model.graph.node.insert(0, node)
    graph = canonical(model)
    assert [n.op for n in graph.nodes] == [n.op for n in plainly.nodes]
    for a, b in zip(graph.nodes, plainly.nodes, strict=True):
        for x, y in zip(a.inputs[1:], b.inputs[1:], strict=True):
            assert isinstance(x, gs.Constant) == isinstance(y, gs.Constant)
            if isinstance(x, gs.Constant):
                np.testing.assert_array_equal(x.values, y.values)


def test_batchnorm_that_cannot_be_folded_stays():
    """Behind a Relu, behind a layer with two readers, and behind one that is a graph output."""
    model = build_model(plain)
    graph = canonical(model)
    _assert_same_function(model, graph)
    conv = next(node for node in graph.nodes if node.name.startswith("conv"))
    norm = [gs.Constant(f"n{i}", np.full(6, 0.5 + i, np.float32)) for i in range(4)]
    out = gs.Variable("normed", np.float32, conv.outputs[0].shape)
    relu = conv.outputs[0].outputs[0]
    graph.nodes.append(gs.Node("BatchNormalization", "bn", {}, [relu.outputs[0], *norm], [out]))
    graph.outputs.append(out)
    again = canonical(to_proto(graph.toposort()))
    assert [node.op for node in again.nodes].count("BatchNormalization") == 1


def test_batchnorm_whose_product_overflows_stays():
    model = build_model(plain)
    assert "BatchNormalization" not in {node.op for node in canonical(model).nodes}
    gammas = {n.input[1] for n in model.graph.node if n.op_type == "BatchNormalization"}
    for tensor in model.graph.initializer:
        if tensor.name in gammas or len(tensor.dims) == 4:
            large = np.full(tensor.dims, 1e30, np.float32)
            tensor.CopyFrom(numpy_helper.from_array(large, tensor.name))
    graph = canonical(model)
    assert [node.op for node in graph.nodes].count("BatchNormalization") == len(gammas)
    constants = [t.values for t in graph.tensors().values() if isinstance(t, gs.Constant)]
    assert all(np.isfinite(values).all() for values in constants)


def test_clone_shares_nothing():
    graph = build(residual)
    copy = clone(graph)
    before = to_proto(graph)
    for tensor in copy.tensors().values():
        if isinstance(tensor, gs.Constant):
            tensor.values[...] = 0
    copy.nodes[0].attrs["group"] = 7
    assert to_proto(graph) == before


def test_canonical_twice_is_canonical():
    graph = build(*BLOCKS[:6])
    assert to_proto(canonical(to_proto(graph))).graph.node == to_proto(graph).graph.node


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: setattr(m.opset_import[0], "version", 8), "opset 8"),
        (lambda m: setattr(m.opset_import[0], "version", 999), "opset 999"),
        (lambda m: setattr(m.graph.node[0], "domain", "com.microsoft"), "com.microsoft"),
        (lambda m: m.opset_import.append(helper.make_opsetid("com.microsoft", 1)), "com.microsoft"),
    ],
)
def test_foreign_operators_are_refused(change, message):
    model = _with_input([1, 4])
    change(model)
    with pytest.raises(UnsupportedModelError, match=message):
        canonical(model)


def test_huge_constant_is_not_computed():
    """A ConstantOfShape of 32 GiB in a file of 200 bytes."""
    model = _with_input([1])
    shape = numpy_helper.from_array(np.array([1 << 33]), "shape")
    model.graph.initializer.append(shape)
    model.graph.node.insert(0, helper.make_node("ConstantOfShape", ["shape"], ["big"], name="bomb"))
    model.graph.node.append(helper.make_node("Add", ["big", "y"], ["z"], name="add"))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n"]))
    with pytest.raises(ModelError, match="elements"):
        canonical(model)


@pytest.mark.skipif(onnx.defs.onnx_opset_version() < 28, reason="this onnx ends before opset 28")
def test_what_is_too_new_to_be_said_in_an_older_opset_is_read_as_it_is():
    case = next(c for c in node_tests() if c.name == "test_linear_attention_linear")
    graph = canonical(case.model)
    assert (graph.opset, [node.op for node in graph.nodes]) == (27, ["LinearAttention"])


def test_new_functions_are_said_in_older_operators_and_formats():
    """onnx writes opset 28 in a file format that no runtime reads yet."""
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 8]) for n in ("x", "z", "y")]
    nodes = [helper.make_node("SwiGLU", ["x", "z"], ["y"], "swiglu")]
    model = helper.make_model(
        helper.make_graph(nodes, "new", values[:2], values[2:]),
        opset_imports=[helper.make_opsetid("", 28)],
    )
    graph = canonical(model)
    assert (graph.opset, [node.op for node in graph.nodes]) == (26, ["Sigmoid", "Mul", "Mul"])
    assert model.ir_version > 13 >= to_proto(graph).ir_version
    feeds = {n: np.ones((1, 8), np.float32) for n in ("x", "z")}
    np.testing.assert_allclose(_run(to_proto(graph), feeds)[0], 1 / (1 + np.exp(-1)), rtol=1e-5)


def _quantized(model, activations):
    """The model with int8 weights, and with its input rounded, too, if asked."""
    change, nodes = onnx.ModelProto(), []
    change.CopyFrom(model)
    weights = change.graph.initializer
    for tensor in [t for t in weights if len(t.dims) > 1]:
        values, name = numpy_helper.to_array(tensor), tensor.name
        scale = np.float32(np.abs(values).max() / 127)
        weights.remove(tensor)
        weights.append(numpy_helper.from_array(np.round(values / scale).astype("i1"), f"q{name}"))
        weights.append(numpy_helper.from_array(scale, f"s{name}"))
        nodes.append(helper.make_node("DequantizeLinear", [f"q{name}", f"s{name}"], [name]))
    if activations:
        weights.append(numpy_helper.from_array(np.float32(0.1), "s"))
        nodes.append(helper.make_node("QuantizeLinear", ["x", "s"], ["xq"], "quantize"))
        nodes.append(helper.make_node("DequantizeLinear", ["xq", "s"], ["xr"]))
        change.graph.node[0].input[0] = "xr"
    nodes += change.graph.node
    del change.graph.node[:]
    change.graph.node.extend(nodes)
    return change


def test_quantised_weights_become_floats_again():
    model = _quantized(build_model(residual), activations=False)
    graph = canonical(model)
    assert "DequantizeLinear" not in {n.op for n in graph.nodes}
    feeds = {"x": np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)}
    for a, b in zip(_run(model, feeds), _run(to_proto(graph), feeds), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_quantised_activations_are_refused():
    with pytest.raises(UnsupportedModelError, match=r"already: 2 nodes such as 'quantize'"):
        canonical(_quantized(build_model(residual), activations=True))
