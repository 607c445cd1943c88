"""Networks that read tokens, and networks with several inputs, through the whole of compile."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import hwprune
from hwprune import compiler
from hwprune.errors import DataError
from hwprune.verify.outputs import file_outputs

pytestmark = pytest.mark.ort
TOKENS, LENGTH, WIDTH, CLASSES, SAMPLES = 30, 6, 24, 4, 120


@pytest.fixture
def text_network(tmp_path):
    """Embedded tokens, a mask over them, a residual MLP between norms, a head."""
    rng = np.random.default_rng(0)

    def weight(name, *shape):
        values = rng.standard_normal(shape) * np.sqrt(2 / shape[0])
        return numpy_helper.from_array(values.astype(np.float32), name)

    ones, zeros = (np.full(WIDTH, v, np.float32) for v in (1, 0))
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["e"], "embed"),
        helper.make_node("Cast", ["mask"], ["m"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["m", "last"], ["mm"], "wide"),
        helper.make_node("Mul", ["e", "mm"], ["x"], "masked"),
        helper.make_node("LayerNormalization", ["x", "g", "b"], ["n"], "norm", axis=-1),
        helper.make_node("MatMul", ["n", "up"], ["u"], "up"),
        helper.make_node("Relu", ["u"], ["r"], "relu"),
        helper.make_node("MatMul", ["r", "down"], ["d"], "down"),
        helper.make_node("Add", ["d", "x"], ["s"], "add"),
        helper.make_node("ReduceMean", ["s"], ["p"], "mean", axes=[1], keepdims=0),
        helper.make_node("Gemm", ["p", "head"], ["y"], "head"),
    ]
    constants = [
        weight("table", TOKENS, WIDTH),
        weight("up", WIDTH, 96),
        weight("down", 96, WIDTH),
        weight("head", WIDTH, CLASSES),
        numpy_helper.from_array(ones, "g"),
        numpy_helper.from_array(zeros, "b"),
        numpy_helper.from_array(np.array([2]), "last"),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["N", LENGTH])
        for name in ("ids", "mask")
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", CLASSES])]
    graph = helper.make_graph(nodes, "text", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    path = tmp_path / "text.onnx"
    path.write_bytes(model.SerializeToString())
    return str(path)


def tokens(tmp_path, name="tokens.npz", **changes):
    rng = np.random.default_rng(1)
    arrays = {
        "ids": rng.integers(0, TOKENS, (SAMPLES, LENGTH)),
        "mask": rng.integers(0, 2, (SAMPLES, LENGTH)),
        "y": np.arange(SAMPLES) % CLASSES,
    }
    arrays |= changes
    np.savez(tmp_path / name, **{k: v for k, v in arrays.items() if v is not None})
    return str(tmp_path / name)


def options(ask, out, model, data, **more):
    return ask(out, "0.7x", model=model, data=data, shapes={}, **more)


@pytest.mark.parametrize("known", [True, False], ids=["tokens", "no data"])
def test_tokens_and_a_mask(ask, text_network, tmp_path, known):
    out = tmp_path / "out"
    data = tokens(tmp_path) if known else None
    report = hwprune.compile(options(ask, out, text_network, data))
    assert report.verdict == "met"
    assert report.quality.metric == ("top1" if known else "unknown")
    assert report.params.compiled < report.params.original
    assert report.model.inputs == {"ids": (1, LENGTH), "mask": (1, LENGTH)}
    x = tuple(np.load(tokens(tmp_path))[name] for name in ("ids", "mask"))
    with torch.no_grad():
        twin = hwprune.load(out)(*map(torch.from_numpy, x)).numpy()
    file = file_outputs(out / "network.onnx", x)[0].numpy()
    np.testing.assert_allclose(twin, file, rtol=1e-4, atol=1e-5)
    one = ort.InferenceSession(out / "network.onnx").run(None, {"ids": x[0][:1], "mask": x[1][:1]})
    np.testing.assert_allclose(file[:1], one[0], rtol=1e-6)


def test_it_is_trained_and_verified(ask, text_network, tmp_path):
    out = tmp_path / "out"
    hwprune.compile(options(ask, out, text_network, tokens(tmp_path), epochs=1))
    assert compiler.verify(out).verdict in ("met", "missed", "noisy")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask": None}, "there is no array 'mask'"),
        ({"ids": np.full((SAMPLES, LENGTH), TOKENS)}, "runs from 30 to 30, the network knows 0 to"),
        ({"ids": np.zeros((SAMPLES, LENGTH))}, r"'ids' is float64 .*, not ids \(int64"),
        ({"mask": np.ones((SAMPLES, 3), int)}, "'mask' is int64 120 x 3"),
        ({"mask": np.ones((7, LENGTH), int)}, "differ in length"),
        ({"y": np.full(SAMPLES, CLASSES)}, "from 0 to 3"),
    ],
)
def test_what_does_not_fit_is_explained(ask, text_network, tmp_path, changes, message):
    data = tokens(tmp_path, "bad.npz", **changes)
    with pytest.raises(DataError, match=message):
        hwprune.compile(options(ask, tmp_path / "out", text_network, data))
    with pytest.raises(DataError, match=r"an .npz with the arrays ids \(int64, N x 6\), mask"):
        hwprune.compile(options(ask, tmp_path / "out", text_network, "digits"))


def test_prune_takes_a_tensor_for_each_input(text_network):
    x = (torch.randint(0, TOKENS, (50, LENGTH)), torch.ones(50, LENGTH, dtype=torch.int64))
    small = hwprune.prune(text_network, 0.5, calibration=x)
    sizes = {t.name: tuple(t.dims) for t in small.graph.initializer}
    assert sizes["table"] == (TOKENS, WIDTH // 2)
    with pytest.raises(hwprune.UsageError, match="2 inputs, calibration 1"):
        hwprune.prune(text_network, 0.5, calibration=x[0])
