"""Recurrent layers: inputs and units of the state can go, exactly, in all their forms."""

import numpy as np
import pytest
import torch
from hwprune.backends.null import NullBackend
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from hwprune.frontend.module import graph_from_module
from hwprune.graph.coupling import couple
from hwprune.graph.read import canonical
from hwprune.graph.slim import slim
from hwprune.latency.kernels import KernelGraph
from hwprune.testing.oracles import disagreement, parity, random_keep

pytestmark = pytest.mark.ort
BANDS, STEPS, INNER, UNITS, GATES = 5, 6, 8, 7, {"RNN": 1, "GRU": 3, "LSTM": 4}


def network(op, directions=1, first=False, peephole=False, outputs=1, **attributes):
    """A layer, a recurrent one, and a layer on all its states (or the last one)."""
    rng, gates = np.random.default_rng(0), GATES[op]
    sizes = {
        "v": (BANDS, INNER),
        "w": (directions, gates * UNITS, INNER),
        "r": (directions, gates * UNITS, UNITS),
        "b": (directions, 2 * gates * UNITS),
        "h": (directions, 1, UNITS),
        "p": (directions, 3 * UNITS),
        "u": (directions * UNITS, 3),
    }
    cell = ["h"] if op == "LSTM" and first else [""]
    inputs = ["a", "w", "r", "b", "", "h" if first else "", *cell, "p" if peephole else ""]
    inputs = inputs[: {"RNN": 6, "GRU": 6, "LSTM": 8}[op]]
    made = ["s", "", ""] if outputs == 1 else ["", "s", ""]
    if directions == 2:
        attributes["direction"] = "bidirectional"
    shape = [STEPS, 1, directions * UNITS] if outputs == 1 else [1, directions * UNITS]
    perm = [0, 2, 1, 3] if outputs == 1 else [1, 0, 2]
    nodes = [
        helper.make_node("MatMul", ["x", "v"], ["a"], "first"),
        helper.make_node(op, inputs, made[: 3 if op == "LSTM" else 2], "rnn",
                         hidden_size=UNITS, **attributes),
        helper.make_node("Transpose", ["s"], ["t"], "order", perm=perm),
        helper.make_node("Reshape", ["t", "shape"], ["f"], "flat"),
        helper.make_node("MatMul", ["f", "u"], ["y"], "last"),
    ]  # fmt: skip
    used = {name for node in nodes for name in node.input}
    constants = [
        numpy_helper.from_array(rng.normal(0, 0.5, size).astype(np.float32), name)
        for name, size in sizes.items()
        if name in used
    ]
    constants.append(numpy_helper.from_array(np.array(shape, np.int64), "shape"))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [STEPS, 1, BANDS])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [f"d{i}" for i in range(len(shape))])
    graph = helper.make_graph(nodes, "g", [x], [y], constants)
    return canonical(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))


FORMS = {
    "RNN": {"op": "RNN"},
    "GRU": {"op": "GRU", "first": True},
    "GRU, reset behind": {"op": "GRU", "linear_before_reset": 1},
    "LSTM": {"op": "LSTM", "first": True},
    "LSTM with peepholes": {"op": "LSTM", "peephole": True},
    "both directions": {"op": "LSTM", "directions": 2},
    "the last state": {"op": "GRU", "directions": 2, "outputs": 2},
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_inputs_and_units_can_go(form):
    graph = network(**form)
    coupling = couple(graph)
    assert sorted(g.width for g in coupling.prunable) == [UNITS, INNER]
    for seed in range(3):
        keep = random_keep(coupling, seed)
        assert disagreement(graph, coupling, keep) < 1e-5
        small = slim(graph, coupling, keep)
        layer = next(n for n in small.nodes if n.op == form["op"])
        assert layer.attrs["hidden_size"] == len(keep["rnn"])
        assert parity(small) < 1e-5


class Speech(nn.Module):
    """Convolutions, two recurrent layers in both directions, a classifier."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(BANDS, INNER, 3, padding=1)
        self.rnn = nn.LSTM(INNER, UNITS, 2, bidirectional=True, batch_first=True)
        self.last = nn.Linear(2 * UNITS, 4)

    def forward(self, x):
        x, _ = self.rnn(torch.relu(self.conv(x)).transpose(1, 2))
        return self.last(x[:, -1])


def test_an_exported_network_of_several_layers():
    torch.manual_seed(0)
    graph = graph_from_module(Speech().eval(), (torch.randn(1, BANDS, STEPS),))
    coupling = couple(graph)
    assert sorted(g.width for g in coupling.prunable) == [UNITS, UNITS, INNER]
    for seed in range(3):
        assert disagreement(graph, coupling, random_keep(coupling, seed)) < 1e-5


def test_outputs_that_nobody_reads_have_names_and_shapes_where_they_come_first():
    """A layer whose last state alone is read leaves the sequence out: kernels are told by it."""
    graph = network(**FORMS["the last state"])
    layer = next(n for n in graph.nodes if n.op == "GRU")
    assert layer.outputs[0].name
    assert list(layer.outputs[0].shape) == [STEPS, 2, 1, UNITS]
    kernels = KernelGraph(graph, couple(graph), NullBackend().capabilities())
    assert kernels.by_node[layer.name].output == layer.outputs[0].name
