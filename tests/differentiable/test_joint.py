"""The whole search on a small network."""

import json
import time
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
import torch
from hwprune.backends.cpu import CpuBackend

from hwprune.backend import Capabilities
from hwprune.differentiable.choosing import JointOptions, choose
from hwprune.differentiable.costs import COSTS, size_bytes
from hwprune.differentiable.decisions import Decision, Inclinations
from hwprune.differentiable.joint import Joint, joint, search
from hwprune.differentiable.pressure import Aim
from hwprune.errors import UsageError
from hwprune.export.lower import lower
from hwprune.frontend.dataset import DataSet
from hwprune.graph.channels import Coupling
from hwprune.graph.read import to_proto
from hwprune.network.run import outputs
from hwprune.plan import Plan
from hwprune.quantize.noise import sqnr_db
from hwprune.quantize.ptq import Quantized, quantize
from hwprune.train.qat import qat
from hwprune.train.recipe import Recipe
from hwprune.train.snapshots import Snapshots
from hwprune.verify.kernels import products
from hwprune.verify.outputs import file_outputs

MOST = 13_000


@pytest.fixture(scope="module")
def few(data: DataSet) -> DataSet:
    return data.select(slice(240))


@pytest.fixture(scope="module")
def found(
    original: gs.Graph, coupling: Coupling, capabilities: Capabilities, few: DataSet
) -> Joint:
    return joint(original, coupling, capabilities, few, MOST, JointOptions(epochs=1))


def quantized(graph: gs.Graph, capabilities: Capabilities, data: DataSet) -> Quantized:
    kernels = {node.name: "int8" for node in graph.nodes}
    return quantize(graph, kernels, capabilities, data.x[:128])


def pressed(
    cost: str,
    strength: float,
    original: gs.Graph,
    coupling: Coupling,
    capabilities: Capabilities,
    few: DataSet,
    bits: tuple[int, ...] = (0, 2, 4, 8),
) -> Inclinations:
    start = quantized(original, capabilities, few)
    options = JointOptions(1, bits=bits)
    aims = [Aim(COSTS[cost], None, strength)]
    return choose(start, original, coupling, few, options, lambda _: aims, _likeliest).choice


def _likeliest(choice: Inclinations) -> Decision:
    return choice.decide({})


@pytest.mark.ort
def test_the_file_is_what_was_promised(
    found: Joint, capabilities: Capabilities, data: DataSet, tmp_path: Path
) -> None:
    plan, made = found.found.plan, found.quantized
    model = lower(made.graph, plan.kernels, made.encodings, capabilities)
    size = len(model.SerializeToString())
    assert size == found.found.size_bytes
    assert 0.97 * MOST < size <= MOST
    path = tmp_path / "model.onnx"
    onnx.save_model(model, path)
    layers = sum(n.op in ("Conv", "Gemm", "MatMul") for n in made.graph.nodes)
    assert products(CpuBackend(), path) == (layers, 0)
    x = data.x[:16]
    (file,) = file_outputs(path, (torch.from_numpy(x),), 1)
    assert sqnr_db(outputs(made.module, x)[0], file) > 30


def test_the_plan_says_the_bits_of_every_output_that_is_left(found: Joint) -> None:
    plan = found.found.plan
    assert Plan.from_json(plan.to_json()) == plan
    for node in found.quantized.graph.nodes:
        for bits in filter(None, [plan.channel_bits.get(node.name)]):
            assert len(bits) == node.outputs[0].shape[1]
            assert set(bits) <= {2, 4, 8}
            assert plan.weight_bits[node.name] == max(bits)


def test_plans_of_before_are_read() -> None:
    document = json.loads(Plan().to_json())
    del document["channel_bits"]
    assert Plan.from_json(json.dumps(document)) == Plan()


def test_the_same_seed_finds_the_same(
    found: Joint, original: gs.Graph, coupling: Coupling, capabilities: Capabilities, few: DataSet
) -> None:
    again = joint(original, coupling, capabilities, few, MOST, JointOptions(epochs=1))
    assert again.found.plan == found.found.plan
    for mine, theirs in zip(
        again.quantized.module.parameters(), found.quantized.module.parameters(), strict=True
    ):
        assert torch.equal(mine, theirs)


def test_a_killed_search_goes_on_to_the_same_parameters(
    original: gs.Graph,
    coupling: Coupling,
    capabilities: Capabilities,
    few: DataSet,
    kernels: dict[str, str],
    tmp_path: Path,
) -> None:
    snapshots, steps = Snapshots(tmp_path / "state", "this"), list[int]()

    def killed(done: int, total: int, text: str) -> None:
        if done > 0.6 * total:
            raise KeyboardInterrupt

    def counted(done: int, total: int, text: str) -> None:
        steps.append(done)

    args = original, coupling, capabilities, few, (torch.from_numpy(few.x),), kernels, MOST
    options = JointOptions(epochs=2)
    alone = search(*args, options)
    with pytest.raises(KeyboardInterrupt):
        search(*args, options, progress=killed, snapshots=snapshots)
    again = search(*args, options, progress=counted, snapshots=snapshots)
    assert 1 < steps[0] == steps[-1] - len(steps) + 1
    assert again.plan == alone.plan
    assert to_proto(again.graph).SerializeToString() == to_proto(alone.graph).SerializeToString()


def test_a_search_by_the_clock(
    original: gs.Graph, coupling: Coupling, capabilities: Capabilities, few: DataSet
) -> None:
    start = time.perf_counter()
    found = joint(original, coupling, capabilities, few, MOST, JointOptions(minutes=0.03))
    assert 3.6 < time.perf_counter() - start < 15
    assert 0.9 * MOST < found.found.size_bytes <= MOST


def test_eight_bits_alone_are_plain_training(
    original: gs.Graph, coupling: Coupling, capabilities: Capabilities, few: DataSet
) -> None:
    start = quantized(original, capabilities, few)
    options = JointOptions(1, bits=(8,))
    found = choose(start, original, coupling, few, options, lambda _: [], _likeliest)
    mine, choice = found.trained, found.choice
    theirs = qat(quantized(original, capabilities, few), original, few, Recipe(1), 0)
    assert not choice.zeros
    for ours, other in zip(mine.module.parameters(), theirs.module.parameters(), strict=True):
        assert torch.equal(ours, other)
    x = few.x[:32]
    assert torch.equal(outputs(mine.module, x)[0], outputs(theirs.module, x)[0])


def test_endless_pressure_leaves_what_is_protected(
    original: gs.Graph, coupling: Coupling, capabilities: Capabilities, few: DataSet
) -> None:
    choice = pressed("size", 1e4, original, coupling, capabilities, few)
    decision = choice.decide({})
    assert {g: int(k.sum()) for g, k in decision.kept.items()} == dict.fromkeys(choice.zeros, 1)


def test_no_pressure_leaves_everything(
    original: gs.Graph, coupling: Coupling, capabilities: Capabilities, few: DataSet
) -> None:
    choice = pressed("size", 0.0, original, coupling, capabilities, few)
    whole = choice.decide({})
    assert all(k.mean() > 0.9 for k in whole.kept.values())
    assert {int(np.median(bits)) for bits in whole.bits.values()} == {8}


def test_the_cost_that_is_pressed_is_the_one_that_falls(
    original: gs.Graph, coupling: Coupling, capabilities: Capabilities, few: DataSet
) -> None:
    """MPIC counts how often a weight is used: once in the last layer, 81 times in the first."""
    last = []
    for cost in ("mpic", "bits"):
        args = original, coupling, capabilities, few
        last.append(
            _likeliest(pressed(cost, 4.0, *args, bits=(2, 4, 8))).bits["node_linear"].mean()
        )
    assert last[0] > last[1] + 1


def test_a_bound_stops_pressing_where_it_holds() -> None:
    aim = Aim(size_bytes, 50.0, 3.0)
    cost = torch.tensor([100.0, 75.0, 50.0, 10.0])
    assert aim.penalty(cost, 100.0).tolist() == [3.0, 1.5, 0.0, 0.0]
    assert Aim(size_bytes, None, 3.0).penalty(cost, 100.0).tolist() == pytest.approx(
        [3.0, 2.25, 1.5, 0.3]
    )


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (JointOptions(bits=(0,)), "cannot have"),
        (JointOptions(bits=(3, 8)), "cannot have"),
        (JointOptions(cost="joules"), "no cost 'joules'"),
    ],
)
def test_what_cannot_be_is_named(
    options: JointOptions, what: str, capabilities: Capabilities
) -> None:
    with pytest.raises(UsageError, match=what):
        options.check(capabilities)
