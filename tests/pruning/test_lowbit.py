"""Angles and distances by hand, on constructed layers, and on quantised networks of every kind."""

import math
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
import pytest
import torch
from torch import Tensor, nn

from hwprune.backend import Capabilities
from hwprune.frontend.module import graph_from_module
from hwprune.graph.coupling import couple
from hwprune.network import linear
from hwprune.network.twin import to_module
from hwprune.pruning.criteria import rank_channels, rank_quantized
from hwprune.pruning.lowbit import LOW_BIT, angles, distances
from hwprune.pruning.ranking import Ranking
from hwprune.quantize.catalogue import GROUP, WEIGHTS
from hwprune.quantize.kinds import WeightKind
from hwprune.quantize.ptq import Quantized, quantize
from hwprune.quantize.quantizers import quantized_layer, quantized_weight

NOTHING = torch.zeros(1)
ONE_BIT = [("binary", "tensor"), ("xnor", "tensor"), ("xnor", "channel")]
BITS = {"binary": 1, "xnor": 1, "ternary": 2, "dorefa": 2, "slb": 2}
KINDS = [WeightKind(name, BITS.get(name, 3), granularity) for name, granularity in WEIGHTS]
INT8 = frozenset({"int8"})
EVERYTHING = Capabilities(
    dict.fromkeys(("Conv", "Gemm", "MatMul"), INT8),
    {"int8": frozenset({"Relu"})},
    residual_fused=frozenset(),
    passthrough=frozenset({"Flatten", "Reshape"}),
)


def conv(weight: Tensor, name: str = "xnor", granularity: str = "channel") -> Any:
    layer = nn.Conv2d(*weight.shape[1::-1], tuple(weight.shape[2:]), bias=False)
    layer.weight = nn.Parameter(weight)
    return quantized_layer(layer, WeightKind(name, BITS.get(name, 3), granularity))


def chain(width: int = 8) -> gs.Graph:
    """Two 3x3 convolutions, one 1x1, and a linear layer that reads what was flattened."""
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 6, 3, padding=1), nn.ReLU(),
        nn.Conv2d(6, 5, 1), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 16, 4),
    ]  # fmt: skip
    return graph_from_module(nn.Sequential(*layers), (torch.zeros(1, 3, 4, 4),))


def products(graph: gs.Graph) -> list[gs.Node]:
    return [node for node in graph.nodes if node.op in ("Conv", "Gemm", "MatMul")]


def network(graph: gs.Graph, nodes: list[gs.Node], bits: int, x: Tensor) -> Quantized:
    """Some nodes in int8 with weights of few bits; latent weights are the graph's."""
    kernels = dict.fromkeys((n.name for n in nodes), "int8")
    return quantize(graph, kernels, EVERYTHING, x, dict.fromkeys(kernels, bits), latent=True)


def samples() -> Tensor:
    return torch.randn(32, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def orders(rankings: dict[str, Ranking]) -> list[list[int]]:
    return [ranking.order.tolist() for ranking in rankings.values()]


def theta(w: np.ndarray, q: np.ndarray) -> float:
    return math.acos(min(1.0, float((w * q).sum() / np.sqrt((w * w).sum() * (q * q).sum()))))


def delta(w: np.ndarray, q: np.ndarray) -> float:
    return float(np.square(w - q).sum())


@pytest.mark.parametrize(("name", "granularity"), ONE_BIT)
def test_equal_magnitudes_have_no_angle_and_one_hot_kernels_arccos_of_a_third(
    name: str, granularity: str
) -> None:
    signs = torch.where(torch.randn(4, 3, 3, 3) > 0, 1.0, -1.0)
    layer = conv(0.3 * signs, name, granularity)
    found = angles(layer.weight.flatten(2), quantized_weight(layer).flatten(2))
    assert found.shape == (4, 3)
    assert float(found.detach().abs().max()) < 1e-5
    one_hot = conv(0.3 * nn.functional.one_hot(torch.arange(9), 9).float().reshape(3, 3, 3, 3))
    found = angles(one_hot.weight.flatten(2), quantized_weight(one_hot).flatten(2))
    np.testing.assert_allclose(found.detach(), math.acos(1 / 3), atol=1e-5)


@pytest.mark.parametrize(("name", "granularity"), [*ONE_BIT, ("ternary", "channel")])
def test_angles_know_no_scale_and_distances_do(name: str, granularity: str) -> None:
    weight = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    found = []
    for factor in (1.0, 5.0):
        latent = factor * weight
        selves = quantized_weight(conv(latent, name, granularity))
        assert selves is not None
        pair = latent.flatten(2), selves.flatten(2)
        found.append((angles(*pair), distances(*pair)))
    np.testing.assert_allclose(found[1][0], found[0][0], atol=1e-5)
    assert (found[1][1] > 2 * found[0][1]).all()


def test_of_nothing_the_angle_is_right() -> None:
    some, nothing = torch.ones(1, 9), torch.zeros(1, 9)
    for pair in ((some, nothing), (nothing, some), (nothing, nothing)):
        assert angles(*pair).item() == pytest.approx(math.pi / 2)
    assert angles(some, -some).item() == pytest.approx(math.pi)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_scores_of_every_kind_are_means_over_the_kernels(kind: WeightKind) -> None:
    """Against loops in numpy, for the 3x3 layer that makes a group and the one that reads it."""
    graph = chain(GROUP)
    coupling, nodes = couple(graph), products(graph)
    plain = linear.layers(to_module(graph))
    layers = {n.name: quantized_layer(plain[n.name], kind) for n in nodes[1:2]}
    if kind.granularity != "group":  # which 3 inputs are not enough for
        layers |= {nodes[0].name: quantized_layer(plain[nodes[0].name], kind)}
    selves = {n: w for n, m in layers.items() if (w := quantized_weight(m)) is not None}
    found = {
        name: criterion.scores(graph, coupling, layers, selves)[coupling.prunable[0].name]
        for name, criterion in LOW_BIT.items()
    }
    for name, measure in (("angle", theta), ("distance", delta)):
        w, q = (t.detach().double().numpy() for t in pair(layers, selves, nodes[1].name))
        read = [np.mean([measure(w[o, i], q[o, i]) for o in range(6)]) for i in range(GROUP)]
        np.testing.assert_allclose(found[name], read, rtol=1e-5, atol=1e-5)
        if nodes[0].name in layers:
            w, q = (t.detach().double().numpy() for t in pair(layers, selves, nodes[0].name))
            made = [np.mean([measure(w[o, i], q[o, i]) for i in range(3)]) for o in range(GROUP)]
            np.testing.assert_allclose(found[f"{name}-own"], made, rtol=1e-5, atol=1e-5)


def pair(layers: Any, selves: Any, node: str) -> tuple[Tensor, Tensor]:
    return layers[node].weight, selves[node]


def test_kernels_of_one_weight_are_taken_by_the_column() -> None:
    """The linear layer reads a channel by 16 columns of 4 weights, the 1x1 layer by one of 5."""
    graph = chain()
    coupling, nodes = couple(graph), products(graph)
    layers = linear.layers(to_module(graph))
    xnor = WeightKind("xnor", 1, "channel")
    layers = {n: quantized_layer(layer, xnor) for n, layer in layers.items()}
    selves = {n: w for n, m in layers.items() if (w := quantized_weight(m)) is not None}
    found = list(LOW_BIT["angle"].scores(graph, coupling, layers, selves).values())
    w, q = (t.detach().double().numpy() for t in pair(layers, selves, nodes[2].name))
    expected = [theta(w[:, i], q[:, i]) for i in range(6)]
    np.testing.assert_allclose(found[1], expected, atol=1e-5)
    w, q = (t.detach().double().numpy() for t in pair(layers, selves, nodes[3].name))
    expected = [np.mean([theta(w[:, 16 * c + j], q[:, 16 * c + j]) for j in range(16)])
                for c in range(5)]  # fmt: skip
    np.testing.assert_allclose(found[2], expected, atol=1e-5)


def test_the_largest_channel_goes_first_if_its_kernels_are_one_hot_and_magnitude_keeps_it() -> None:
    graph = chain()
    group = couple(graph).prunable[0]
    weight = np.array(products(graph)[0].inputs[1].values)
    weight[:] = 0.1 * np.where(weight > 0, 1, -1) * (1 + 0.2 * np.abs(weight))
    weight[2] = 0
    weight[2, :, 0, 0] = 10.0
    products(graph)[0].inputs[1].values = weight
    x = samples()
    found = network(graph, products(graph), 1, x)
    ranked = {c: rank_quantized(found, couple(graph), x, c)[group.name].order
              for c in ("angle-own", "distance-own", "magnitude")}  # fmt: skip
    assert ranked["angle-own"][0] == ranked["distance-own"][0] == 2
    assert ranked["magnitude"][-1] == 2


@pytest.mark.parametrize("measure", ["angle", "distance"])
def test_next_layer_scores_change_with_the_next_layer_only(measure: str) -> None:
    graph = chain()
    coupling, first = couple(graph), couple(graph).prunable[0].name
    nodes = products(graph)
    kinds = {"": LOW_BIT[measure], "-own": LOW_BIT[f"{measure}-own"]}

    def scores() -> dict[str, Tensor]:
        layers = linear.layers(to_module(graph))
        ternary = WeightKind("ternary", 2, "channel")
        made = {n: quantized_layer(layer, ternary) for n, layer in layers.items()}
        selves = {n: w for n, m in made.items() if (w := quantized_weight(m)) is not None}
        return {k: c.scores(graph, coupling, layers, selves)[first] for k, c in kinds.items()}

    before = scores()
    rng = np.random.default_rng(0)
    nodes[0].inputs[1].values = rng.normal(size=nodes[0].inputs[1].shape).astype(np.float32)
    after_own = scores()
    torch.testing.assert_close(after_own[""], before[""])
    assert (after_own["-own"] - before["-own"]).abs().min() > 1e-4
    nodes[1].inputs[1].values = rng.normal(size=nodes[1].inputs[1].shape).astype(np.float32)
    after_next = scores()
    torch.testing.assert_close(after_next["-own"], after_own["-own"])
    assert (after_next[""] - before[""]).abs().min() > 1e-4


@pytest.mark.parametrize("criterion", LOW_BIT)
def test_permuted_channels_are_permuted_orders(criterion: str) -> None:
    graph = chain()
    group = couple(graph).prunable[0].name
    order = rank_channels(graph, couple(graph), NOTHING, criterion)[group].order
    moved = np.random.default_rng(0).permutation(8)  # new channel i is the old moved[i]
    first, second, *_ = products(graph)
    for tensor in first.inputs[1:]:
        tensor.values = tensor.values[moved]
    second.inputs[1].values = second.inputs[1].values[:, moved]
    after = rank_channels(graph, couple(graph), NOTHING, criterion)[group].order
    np.testing.assert_array_equal(moved[after], order)


def test_layers_that_are_not_quantised_leave_the_score_to_those_that_are() -> None:
    """The reader of the first group stays fp32: its own layer decides. Nobody is: no preference."""
    graph = chain()
    coupling, nodes = couple(graph), products(graph)
    x = samples()

    def found(quantised: list[gs.Node], criterion: str) -> list[list[int]]:
        return orders(rank_quantized(network(graph, quantised, 1, x), coupling, x, criterion))

    both = found(nodes[:2], "angle"), found(nodes[:2], "angle-own")
    assert both[0][0] != both[1][0]
    assert found(nodes[:1], "angle")[0] == both[1][0]
    assert found(nodes[1:2], "angle")[0] == both[0][0]
    assert found(nodes[3:], "angle")[0] == list(range(8))


def test_a_quantised_network_is_ranked_by_its_own_quantisers() -> None:
    """Latent weights that training has moved, and bits that make another order."""
    graph = chain(GROUP)
    coupling, x = couple(graph), samples()
    found = [network(graph, products(graph), bits, x) for bits in (1, 3)]
    one, three = (rank_quantized(network, coupling, x, "distance") for network in found)
    assert orders(one) != orders(three)
    layer: Any = linear.layers(found[0].module)[products(graph)[1].name]
    with torch.no_grad():
        layer.weight[:, 7] = 3 * nn.functional.one_hot(torch.tensor(4), 9).reshape(1, 3, 3)
    moved = rank_quantized(found[0], coupling, x, "angle")
    assert moved[coupling.prunable[0].name].order[0] == 7
    latent = rank_quantized(found[0], coupling, x, "magnitude")
    assert orders(latent) == orders(rank_channels(found[0].graph, coupling, x, "magnitude"))


def test_dorefa_is_the_papers_formula() -> None:
    layer = conv(torch.randn(4, 3, 3, 3), "dorefa", "tensor")
    w = layer.weight.detach().double().numpy()
    unit = np.tanh(w) / (2 * np.abs(np.tanh(w)).max()) + 0.5
    np.testing.assert_allclose(
        quantized_weight(layer), 2 * np.rint(3 * unit) / 3 - 1, rtol=0, atol=1e-6
    )
    assert quantized_weight(nn.Conv2d(1, 1, 1)) is None
