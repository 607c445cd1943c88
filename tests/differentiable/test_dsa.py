"""Keep ratios by training: what they find out, what they keep to, and what they refuse."""

from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
import torch
from torch import nn

from hwprune.differentiable.allocation import Allocation
from hwprune.differentiable.dsa import Learned, learn_ratios
from hwprune.errors import DataError, InfeasibleError, UnsupportedModelError, UsageError
from hwprune.frontend.dataset import DataSet
from hwprune.frontend.module import graph_from_module
from hwprune.graph.channels import Coupling
from hwprune.graph.coupling import couple
from hwprune.graph.read import canonical, to_proto
from hwprune.graph.slim import slim
from hwprune.latency.space import SearchSpace
from hwprune.network.run import divergence, outputs, top1
from hwprune.network.twin import to_module
from hwprune.pruning.ranking import Ranking
from hwprune.search.problem import Bound, Factor, Problem, Variable
from hwprune.testing.networks import (
    Block,
    Builder,
    attended,
    build,
    gated,
    plain,
    pooled_head,
    separable,
    shuffled,
)
from hwprune.train.recipe import Recipe
from hwprune.train.snapshots import Snapshots

RECIPE = Recipe(3, 0.03)


class TwoLayers(nn.Module):
    """One branch makes the answer, the other as good as nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.useful1 = nn.Conv2d(2, 24, 3, padding=1)
        self.useful2 = nn.Conv2d(24, 6, 3, padding=1)
        self.useless1 = nn.Conv2d(2, 24, 3, padding=1)
        self.useless2 = nn.Conv2d(24, 6, 3, padding=1)
        with torch.no_grad():
            self.useless2.weight.mul_(1e-3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        useful = self.useful2(self.useful1(x).relu())
        useless = self.useless2(self.useless1(x).relu())
        return torch.as_tensor(30 * (useful + useless).mean((2, 3)))


def spaced(coupling: Coupling, step: int = 4) -> tuple[SearchSpace, Problem]:
    """Widths in steps; each group takes as long as it has channels."""
    prunable = coupling.prunable
    widths = {g.name: [*range(step, g.width, step), g.width] for g in prunable}
    space = SearchSpace({n: tuple({n: w} for w in ws) for n, ws in widths.items()}, (), {})
    variables = tuple(Variable(f"width:{n}", len(ws)) for n, ws in widths.items())
    latency = tuple(Factor((f"width:{n}",), 10.0 * np.array(ws)) for n, ws in widths.items())
    return space, Problem(variables, latency, (), 40.0)


def allocation(coupling: Coupling, share: float, *bounds: Bound) -> Allocation:
    space, problem = spaced(coupling)
    whole = problem.latency_ns({v.name: v.neutral for v in problem.variables})
    problem = Problem(problem.variables, problem.latency, (), problem.constant_ns, bounds)
    return Allocation(space, problem, share * whole, {})


@pytest.fixture(scope="module")
def toy() -> gs.Graph:
    torch.manual_seed(0)
    return graph_from_module(TwoLayers(), (torch.zeros(1, 2, 6, 6),))


@pytest.fixture(scope="module")
def images() -> DataSet:
    return DataSet(np.random.default_rng(0).normal(size=(800, 2, 6, 6)).astype(np.float32))


def content(found: Learned) -> bytes:
    return bytes(to_proto(found.graph).SerializeToString())


def assert_same(a: Learned, b: Learned) -> None:
    assert a.ratios == b.ratios
    assert all(np.array_equal(order, b.orders[g]) for g, order in a.orders.items())
    assert content(a) == content(b)


@pytest.fixture(scope="module")
def learned(toy: gs.Graph, images: DataSet) -> Learned:
    coupling = couple(toy)
    return learn_ratios(toy, coupling, allocation(coupling, 0.6), images, RECIPE, 0)


def test_a_useless_layer_pays_for_the_useful_one(learned: Learned) -> None:
    useful, useless = learned.ratios.values()
    assert list(learned.ratios) == ["width:node_conv2d", "width:node_conv2d_2"]
    assert useless < 0.25  # 1/6 is the least that is offered
    assert useful > 0.85  # a uniform ratio is 0.57


def test_the_budget_is_used_without_any_search_around(learned: Learned, toy: gs.Graph) -> None:
    assert learned.used[0] == pytest.approx(1.0, abs=0.01)
    found = allocation(couple(toy), 0.6)
    shares = torch.tensor(list(learned.ratios.values()), dtype=torch.float64)
    assert float(found.relaxed.used(shares)[0]) == pytest.approx(learned.used[0])


def test_gradients_alone_come_down_to_the_budget(toy: gs.Graph, images: DataSet) -> None:
    """Before Newton's steps: from 1.67 of it to about 1, at the pace of the bounds."""
    told: list[tuple[float, float]] = []

    def watch(done: int, total: int, text: str) -> None:
        told.append((done / total, float(text.split(", ")[-1].split()[0])))

    coupling = couple(toy)
    learn_ratios(toy, coupling, allocation(coupling, 0.6), images, RECIPE, 0, progress=watch)
    assert told[0][1] > 1.6
    assert all(used < 1.05 * (1 / 0.6) ** max(0.0, 1 - 2 * share) + 0.15 for share, used in told)
    late = [used for share, used in told if 0.6 < share < 0.74]
    assert max(abs(used - 1) for used in late) < 0.1


def test_the_nearest_widths_keep_the_budget_and_the_answers(
    learned: Learned, toy: gs.Graph, images: DataSet
) -> None:
    coupling = couple(toy)
    given = allocation(coupling, 0.6)
    decoded = given.nearest(learned.ratios)
    assert 0.85 * given.budget_ns < decoded.latency_ns <= given.budget_ns
    widths = given.space.configuration(decoded.assignment).widths
    for name, width in widths.items():
        ratio = learned.ratios[f"width:{name}"]
        assert abs(width - 24 * ratio) <= 4
    kept = learned.kept(widths)
    assert {g: len(k) for g, k in kept.items()} == widths
    x = images.x[:300]
    expected = outputs(to_module(toy), x)
    trained = divergence(expected, outputs(to_module(slim(learned.graph, coupling, kept)), x))
    uniform = {g.name: range(13) for g in coupling.prunable}
    plain = divergence(expected, outputs(to_module(slim(toy, coupling, uniform)), x))
    assert trained < 0.3 * plain


def test_what_is_left_is_what_was_trained(learned: Learned, toy: gs.Graph, images: DataSet) -> None:
    """At full width, at the legal widths, and anywhere between it is one network."""
    coupling, x = couple(toy), images.x[:64]
    settled = allocation(coupling, 0.6).widths(learned.ratios)
    assert min(settled.values()) < 12
    expected = outputs(to_module(slim(learned.graph, coupling, learned.kept(settled))), x)[0]
    for more in (2, 24):
        wider = {g: min(24, w + more) for g, w in settled.items()}
        found = outputs(to_module(slim(learned.graph, coupling, learned.kept(wider))), x)[0]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("block", [attended, shuffled, separable, gated], ids=lambda b: b.__name__)
def test_attention_and_grouped_and_depthwise_layers_are_trained_too(block: Block) -> None:
    graph = build(block, plain, seed=1)
    coupling, rng = couple(graph), np.random.default_rng(0)
    few = DataSet(rng.normal(size=(120, 3, 8, 8)).astype(np.float32))
    given = allocation(coupling, 0.7)
    found = learn_ratios(graph, coupling, given, few, Recipe(1, 0.01), 0)
    assert found.used[0] == pytest.approx(1.0, abs=0.01)
    kept = found.kept(given.widths(found.ratios))
    slimmed = outputs(to_module(slim(found.graph, coupling, kept)), few.x[:16])[0]
    whole = outputs(to_module(found.graph), few.x[:16])[0]
    torch.testing.assert_close(slimmed, whole, rtol=1e-4, atol=1e-4)


def test_an_order_that_is_given_is_kept_to(toy: gs.Graph, images: DataSet) -> None:
    coupling = couple(toy)
    order = np.random.default_rng(0).permutation(24)
    rankings = {g.name: Ranking(order, np.zeros(25)) for g in coupling.prunable}
    few, recipe = images.select(slice(300)), Recipe(1, 0.03)
    given = allocation(coupling, 0.6)
    found = learn_ratios(toy, coupling, given, few, recipe, 0, rankings=rankings)
    for name, kept in found.kept({g.name: 7 for g in coupling.prunable}).items():
        assert kept == rankings[name].kept(7)


def test_the_same_seed_gives_the_same_and_another_one_another(
    learned: Learned, toy: gs.Graph, images: DataSet
) -> None:
    coupling = couple(toy)
    again = learn_ratios(toy, coupling, allocation(coupling, 0.6), images, RECIPE, 0)
    assert_same(again, learned)
    other = learn_ratios(toy, coupling, allocation(coupling, 0.6), images, RECIPE, 1)
    assert content(other) != content(learned)


def test_a_killed_training_goes_on_to_the_same_ratios(
    learned: Learned, toy: gs.Graph, images: DataSet, tmp_path: Path
) -> None:
    coupling, snapshots = couple(toy), Snapshots(tmp_path / "state", "this")
    given = allocation(coupling, 0.6)

    def kill(done: int, total: int, text: str) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn_ratios(toy, coupling, given, images, RECIPE, 0, progress=kill, snapshots=snapshots)
    assert (tmp_path / "state").exists()
    again = learn_ratios(toy, coupling, given, images, RECIPE, 0, snapshots=snapshots)
    assert_same(again, learned)


def test_a_budget_of_minutes_will_do(toy: gs.Graph, images: DataSet) -> None:
    coupling = couple(toy)
    recipe = Recipe(1000, 0.03, minutes=0.03)
    found = learn_ratios(toy, coupling, allocation(coupling, 0.6), images, recipe, 0)
    assert found.used[0] == pytest.approx(1.0, abs=0.01)


def test_another_bound_is_kept_too(toy: gs.Graph, images: DataSet) -> None:
    """Where the time alone would leave the useful layer whole, its own bytes do not."""
    coupling = couple(toy)
    name = coupling.prunable[0].name
    bytes_ = Factor((f"width:{name}",), 100.0 * np.arange(4, 25, 4))
    given = allocation(coupling, 0.6, Bound("the file", (bytes_,), 0.0, 1200.0))
    found = learn_ratios(toy, coupling, given, images, RECIPE, 0)
    assert max(found.used) == pytest.approx(1.0, abs=0.01)
    assert found.ratios[f"width:{name}"] <= 0.51


@pytest.fixture(scope="module")
def digits() -> tuple[DataSet, DataSet]:
    from sklearn.datasets import load_digits

    found = load_digits()
    x = (found.images / 8 - 1).astype(np.float32)[:, None]
    whole = DataSet(x, found.target.astype(np.int64))
    order = np.random.default_rng(0).permutation(len(x))
    return whole.select(order[:1200]), whole.select(order[1200:])


def test_it_works_from_scratch(digits: tuple[DataSet, DataSet]) -> None:
    """Random weights, labels alone: a slim network that has learnt its task."""
    train, test = digits
    graph = canonical(_untrained())
    coupling = couple(graph)
    given = allocation(coupling, 0.5)
    recipe = Recipe(8, 0.1, label_weight=1.0)
    found = learn_ratios(graph, coupling, given, train, recipe, 0)
    assert found.used[0] == pytest.approx(1.0, abs=0.01)
    widths = given.space.configuration(given.nearest(found.ratios).assignment).widths
    small = to_module(slim(found.graph, coupling, found.kept(widths)))
    assert test.y is not None
    assert top1(outputs(small, test.x)[0], test.y) > 0.8


def _untrained() -> onnx.ModelProto:
    b = Builder(0, (1, 8, 8))
    x = b.relu(b.conv(b.relu(b.conv("x", 16)), 24, stride=2))
    x = b.relu(b.sum(b.conv(b.relu(b.conv(x, 24)), 24), x))
    flat = b.add("Flatten", [b.add("GlobalAveragePool", [x], (24, 1, 1))], (24, 1, 1))
    y = b.add("Gemm", [flat, b.weight(10, 24), b.vector(10)], (10, 1, 1), transB=1)
    return b.model(y, classes=10)


def refuse(graph: gs.Graph, data: DataSet, share: float = 0.6, recipe: Recipe = RECIPE) -> Learned:
    def never(*_: object) -> None:
        raise AssertionError("the training has begun")

    coupling = couple(graph)
    return learn_ratios(
        graph, coupling, allocation(coupling, share), data, recipe, 0, progress=never
    )


def test_what_cannot_be_done_is_said_before_anything_is_trained(
    toy: gs.Graph, images: DataSet
) -> None:
    with pytest.raises(DataError, match="12 training samples are too few"):
        refuse(toy, images.select(slice(12)))
    with pytest.raises(InfeasibleError, match=r"time cannot be kept: the narrowest widths take"):
        refuse(toy, images, 0.05)
    with pytest.raises(UsageError, match="data have none"):
        refuse(toy, images, recipe=Recipe(1, 0.1, label_weight=1.0))
    b = Builder(0, (2, 6, 6))
    x = b.add("Shrink", [b.relu(b.conv("x", 8))], (8, 6, 6), lambd=0.05)
    strange = b.model(pooled_head(b, b.relu(b.conv(x, 8))), classes=5)
    with pytest.raises(UnsupportedModelError, match="no torch twin"):
        refuse(canonical(strange), images, 0.8)


def test_a_network_without_anything_to_prune_is_refused(images: DataSet) -> None:
    graph = graph_from_module(nn.Conv2d(2, 5, 3), (torch.zeros(1, 2, 6, 6),))
    with pytest.raises(UsageError, match="nothing in this network can be pruned"):
        refuse(graph, images)
