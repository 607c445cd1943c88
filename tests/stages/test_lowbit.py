"""A quantised network is trained, cut by what training made of it, and trained again."""

import numpy as np
import onnx_graphsurgeon as gs
import pytest
import torch
from torch import Tensor, nn

from hwprune.backend import Capabilities
from hwprune.errors import UsageError
from hwprune.export.lower import lower
from hwprune.frontend.dataset import DataSet
from hwprune.frontend.module import graph_from_module
from hwprune.graph.coupling import couple
from hwprune.network import linear
from hwprune.network.run import outputs
from hwprune.network.twin import to_module
from hwprune.pruning.criteria import rank_quantized
from hwprune.pruning.slices import slices
from hwprune.quantize.instrument import frozen_twin
from hwprune.quantize.ptq import Quantized
from hwprune.quantize.quantizers import weight_kind
from hwprune.stages.lowbit import Form, cut_few_bits, prune_few_bits, train_few_bits
from hwprune.train.loss import distillation
from hwprune.verify.outputs import file_outputs

INT8 = frozenset({"int8"})


def form(graph: gs.Graph, kind: str, bits: int, per_channel: bool = True) -> Form:
    """Everything in int8, the inner layers' weights in few bits."""
    able = Capabilities(
        dict.fromkeys(("Conv", "Gemm"), INT8), {"int8": frozenset({"Relu"})}, frozenset(),
        passthrough=frozenset({"Reshape", "Flatten"}), per_channel=per_channel,
    )  # fmt: skip
    layers = [node.name for node in graph.nodes if node.op in ("Conv", "Gemm")]
    every = dict.fromkeys((node.name for node in graph.nodes), "int8")
    return Form(every, able, dict.fromkeys(layers[1:-1], bits), kind=kind)


@pytest.fixture(scope="module")
def original() -> gs.Graph:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 16, 3, 2), nn.ReLU(),
              nn.Conv2d(16, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 5)]  # fmt: skip
    with torch.no_grad():
        layers[-1].weight.mul_(30)
    return graph_from_module(nn.Sequential(*layers), (torch.zeros(1, 1, 9, 9),))


@pytest.fixture(scope="module")
def data() -> DataSet:
    return DataSet(np.random.default_rng(0).normal(size=(800, 1, 9, 9)).astype(np.float32))


def distance(network: Quantized, original: gs.Graph, x: Tensor) -> float:
    ours, theirs = outputs(network.module, x), outputs(to_module(original), x)
    return float(distillation(tuple(ours), tuple(theirs), 1.0))


def test_the_whole_way(original: gs.Graph, data: DataSet) -> None:
    wanted = form(original, "xnor", 1)
    before = {n: np.array(t.values) for n, t in original.tensors().items()
              if isinstance(t, gs.Constant)}  # fmt: skip
    x = torch.from_numpy(data.x[:300])
    whole = train_few_bits(original, data, wanted, epochs=2)
    right_after = distance(cut_few_bits(whole, data, wanted, 0.5), original, x)
    found = prune_few_bits(original, data, wanted, 0.5, epochs=(2, 6))
    assert distance(found, original, x) < 0.8 * right_after
    assert distance(whole, original, x) < distance(found, original, x)
    widths = [n.inputs[1].values.shape[0] for n in found.graph.nodes if n.op == "Conv"]
    assert widths == [6, 8, 4]
    layers = linear.layers(found.module)
    kinds = [weight_kind(layers[n.name]) for n in original.nodes if n.name in layers]
    assert [k.name for k in kinds if k] == ["max", "xnor", "xnor", "max"]
    for name, values in before.items():
        np.testing.assert_array_equal(original.tensors()[name].values, values)
    file = lower(found.graph, wanted.kernels, found.encodings, wanted.capabilities)
    written = file_outputs(file.SerializeToString(), x.numpy(), 1)[0]
    twin = outputs(found.module, x)[0]
    assert float((written - twin).abs().median()) <= 0.02 * float(twin.abs().max())


def test_the_cut_is_the_trained_network_without_the_channels_that_rank_last(
    original: gs.Graph, data: DataSet
) -> None:
    """Signs have no scale that what is cut could change: nothing else differs."""
    wanted = form(original, "binary", 1, per_channel=False)
    whole = train_few_bits(original, data, wanted)
    coupling, x = couple(whole.graph), torch.from_numpy(data.x[:100])
    group = coupling.prunable[1]
    order = rank_quantized(whole, coupling, x, "angle")[group.name].order
    masked = frozen_twin(whole.module)
    layers, nodes = linear.layers(masked), {n.name: n for n in whole.graph.nodes}
    for part in slices(group, nodes, layers)[0]:
        gone = part.index[torch.from_numpy(order[:5].copy())].flatten()
        layers[part.node].weight.data.flatten(1)[:, gone] = 0
    cut = cut_few_bits(whole, data, wanted, {group.name: group.width - 5})
    expected, found = outputs(masked, x)[0], outputs(cut.module, x)[0]
    np.testing.assert_allclose(found, expected, atol=0.02 * float(expected.abs().max()))
    assert float((outputs(whole.module, x)[0] - expected).abs().max()) > 0.1 * float(
        expected.abs().max()
    )


def test_criteria_cut_other_channels_and_seeds_the_same(original: gs.Graph, data: DataSet) -> None:
    wanted = form(original, "ternary", 2)
    whole = train_few_bits(original, data, wanted)

    def weights(criterion: str) -> np.ndarray:
        cut = cut_few_bits(whole, data, wanted, 0.75, criterion)
        return np.array(next(n for n in cut.graph.nodes if n.op == "Conv").inputs[1].values)

    kept = {c: weights(c) for c in ("angle", "angle-own", "distance", "magnitude", "random")}
    assert len({values.tobytes() for values in kept.values()}) > 2
    np.testing.assert_array_equal(weights("angle"), kept["angle"])


@pytest.mark.parametrize(("widths", "match"), [
    (0.0, "share"), (1.5, "share"), ({"nobody": 3}, "nobody"), ({"first": 0}, "0 channels"),
])  # fmt: skip
def test_widths_that_there_are_not(
    original: gs.Graph, data: DataSet, widths: dict[str, int] | float, match: str
) -> None:
    wanted = form(original, "xnor", 1)
    whole = train_few_bits(original, data, wanted, epochs=0)
    if isinstance(widths, dict) and "first" in widths:
        widths = {couple(whole.graph).prunable[0].name: 0}
    with pytest.raises(UsageError, match=match):
        cut_few_bits(whole, data, wanted, widths)
    with pytest.raises(UsageError, match="angel"):
        cut_few_bits(whole, data, wanted, 0.5, "angel")
