"""Oracles: onnxruntime on whole networks, and the torch module a graph came from."""

import copy

import numpy as np
import onnx_graphsurgeon as gs
import pytest
import torch
from torch import nn

from hwprune.frontend.module import graph_from_module
from hwprune.graph.read import canonical, clone, read_graph, to_proto
from hwprune.network.run import capture, kl, outputs, top1
from hwprune.network.twin import to_module, write_back

FILES = (
    "cifar10_resnet8",
    "cifar10_resnet_large",
    "face_slim_320",
    "vit_mnist",
    "vww_mobilenetv1_025_96",
)


class Odd(nn.Module):
    """What the reference networks lack: asymmetric and transposed layers, groups, gates, norms."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.slope = nn.PReLU(8)
        self.grouped = nn.Conv2d(8, 8, 3, stride=2, groups=4)
        self.up = nn.ConvTranspose2d(8, 6, 3, stride=2, padding=1, output_padding=1)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(6, 6, 1), nn.Hardsigmoid())
        self.head = nn.Linear(6 * 16, 5)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        x = self.slope(self.norm(x))
        x = self.grouped(nn.functional.pad(x, (0, 1, 0, 1)))
        x = nn.functional.interpolate(self.up(x), scale_factor=2.0)
        x = nn.functional.hardswish(x * self.gate(x))
        x = nn.functional.avg_pool2d(x, 3, 2, padding=1)
        a, b = nn.functional.max_pool2d(x, 4, ceil_mode=True).chunk(2, 1)
        x = torch.cat([b, a], 1).flatten(1)
        return self.head(x)


class Attention(nn.Module):
    """An encoder layer whose attention runs with the batch on the second axis."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.layer = nn.TransformerEncoderLayer(16, 4, 32, 0.0, "gelu", batch_first=False)

    def forward(self, x):
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1)
        return self.layer(x.transpose(0, 1)).transpose(0, 1)[:, 0]


def residual(seed=0):
    """Conv -> Relu -> Conv -> Add -> MatMul; both convolutions share one weight."""
    rng = np.random.default_rng(seed)
    w = gs.Constant("w", rng.normal(size=(4, 4, 3, 3)).astype(np.float32))
    m = gs.Constant("m", rng.normal(size=(5, 3)).astype(np.float32))
    x, a, r, c, s, y = (gs.Variable(n, np.float32) for n in "xarcsy")
    x.shape = [1, 4, 5, 5]
    y.shape, pads = [1, 4, 5, 3], {"pads": [1, 1, 1, 1]}
    nodes = [
        gs.Node("Conv", "first", pads, [x, w], [a]),
        gs.Node("Relu", "act", {}, [a], [r]),
        gs.Node("Conv", "second/conv", pads, [r, w], [c]),
        gs.Node("Add", "sum", {}, [c, x], [s]),
        gs.Node("MatMul", "head", {}, [s, m], [y]),
    ]
    return canonical(gs.export_onnx(gs.Graph(nodes, [x], [y], opset=17), ir_version=10))


def ort_outputs(graph, x):
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(
        to_proto(graph).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    rows = [session.run(None, {name: row[None]}) for row in x]
    return [np.concatenate(column) for column in zip(*rows, strict=True)]


def relative(got, want):
    return float(np.abs(got.numpy() - want).max() / np.abs(want).max())


@pytest.mark.ort
@pytest.mark.shared
@pytest.mark.parametrize("name", FILES)
def test_twin_equals_onnxruntime(shared_data, name):
    graph = read_graph(shared_data / f"{name}.onnx")
    x = np.random.default_rng(0).normal(size=(3, *graph.inputs[0].shape[1:])).astype(np.float32)
    for got, want in zip(outputs(to_module(graph), x), ort_outputs(graph, x), strict=True):
        assert got.shape == want.shape
        assert relative(got, want) < 1e-4


@pytest.mark.parametrize(("module", "shape"), [(Odd, (1, 3, 16, 16)), (Attention, (1, 5, 16))])
def test_twin_equals_the_exported_module_at_any_batch(module, shape):
    torch.manual_seed(0)
    origin = module().eval()
    twin = to_module(graph_from_module(origin, (torch.randn(shape),)))
    for batch in (1, 3):
        x = torch.randn(batch, *shape[1:])
        with torch.inference_mode():
            torch.testing.assert_close(twin(x), origin(x), rtol=1e-4, atol=1e-5)


def test_shared_weights_are_one_parameter():
    twin = to_module(residual())
    assert twin.first.weight is twin.second_conv.weight
    assert sum(p.numel() for p in twin.parameters()) == 4 * 4 * 9 + 15


def test_every_fx_node_knows_its_tensor():
    graph = residual()
    twin = to_module(graph)
    found = {n.meta["tensor"]: n.meta["node"] for n in twin.graph.nodes if n.op != "output"}
    assert {node.outputs[0].name: node.name for node in graph.nodes}.items() <= found.items()


@pytest.mark.ort
def test_trained_weights_go_back():
    graph = residual()
    before = clone(graph)
    twin = copy.deepcopy(to_module(graph))
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(torch.randn_like(parameter))
    write_back(twin, graph)
    x = np.random.default_rng(1).normal(size=(2, 4, 5, 5)).astype(np.float32)
    want = ort_outputs(graph, x)[0]
    assert relative(outputs(twin, x)[0], want) < 1e-5
    assert relative(outputs(to_module(before), x)[0], want) > 0.1


def test_gradients_reach_every_parameter():
    torch.manual_seed(0)
    twin = to_module(graph_from_module(Attention(), (torch.randn(1, 5, 16),)))
    twin(torch.randn(2, 5, 16)).square().sum().backward()
    assert all(p.grad is not None for p in twin.parameters())


def test_capture_and_batches():
    graph = residual()
    twin, x = to_module(graph), torch.randn(5, 4, 5, 5)
    whole = capture(twin, x, ["s", "r"])
    twin.meta["sample_bytes"] = 4 << 20  # two samples a batch
    split = capture(twin, x, ["s", "r"])
    torch.testing.assert_close(whole, split)
    torch.testing.assert_close(whole["s"] @ twin.head.weight.T, outputs(twin, x)[0])


def test_divergence_and_accuracy():
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    assert kl(logits, logits) == pytest.approx(0)
    assert kl(logits, -logits) > 0.5
    assert top1(logits, np.array([0, 0])) == 0.5
