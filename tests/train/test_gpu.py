"""The same training on a GPU."""

import numpy as np
import onnx_graphsurgeon as gs
import pytest
import torch

from hwprune.backend import Capabilities
from hwprune.frontend.dataset import DataSet
from hwprune.graph.coupling import couple
from hwprune.network.run import outputs
from hwprune.network.twin import to_module
from hwprune.plan import Plan
from hwprune.quantize.ptq import quantize
from hwprune.schedules.catalogue import SCHEDULES, schedule_of
from hwprune.schedules.shrink import shrink
from hwprune.train import device
from hwprune.train.loop import fit
from hwprune.train.loss import distillation
from hwprune.train.qat import qat
from hwprune.train.recipe import Recipe

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]
INT8 = Capabilities(
    {"Conv": frozenset({"int8"})}, {"int8": frozenset({"Relu"})}, residual_fused=frozenset(),
    passthrough=frozenset(),
)  # fmt: skip


def apart(module: torch.fx.GraphModule, graph: gs.Graph, x: np.ndarray) -> float:
    ours, theirs = outputs(module, x), outputs(to_module(graph), x)
    return float(distillation(tuple(ours), tuple(theirs), 1.0))


@pytest.mark.parametrize("half", [False, True])
def test_a_gpu_trains_as_the_processor_does(
    original: gs.Graph, data: DataSet, half: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = []
    for on in ("cuda", "cpu"):
        monkeypatch.setattr(device, "training_device", lambda on=on: torch.device(on))
        monkeypatch.setattr("hwprune.train.loop.training_device", lambda on=on: torch.device(on))
        student = to_module(original)
        with torch.no_grad():
            for p in student.parameters():
                p.mul_(0.7)
        before = apart(student, original, data.x)
        recipe = Recipe(2, half=half, ema=0.9, mixup=0.2, feature_weight=0.1)
        fit(student, to_module(original), data, recipe, 0)
        assert next(student.parameters()).device.type == "cpu"
        ends.append(apart(student, original, data.x))
        assert ends[-1] < before / 4
    assert ends[0] == pytest.approx(ends[1], rel=0.3)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_run_on_a_gpu(original: gs.Graph, data: DataSet, name: str) -> None:
    coupling, schedule = couple(original), schedule_of(name)
    assert schedule is not None
    plan = Plan({g.name: tuple(range(g.width // 2)) for g in coupling.prunable})
    found = shrink(original, coupling, plan, schedule, data, Recipe(2), 0, torch.from_numpy(data.x))
    assert {g: len(k) for g, k in found.plan.keep.items()} == plan.configuration.widths


def test_integers_are_trained_on_a_gpu(original: gs.Graph, data: DataSet) -> None:
    kernels = {n.name: "int8" for n in original.nodes if n.op == "Conv"}
    bits = dict.fromkeys(kernels, 3)
    start = quantize(original, kernels, INT8, torch.from_numpy(data.x[:256]), bits)
    before = apart(start.module, original, data.x)
    trained = qat(start, original, data.select(slice(700)), Recipe(4), 0)
    assert apart(trained.module, original, data.x) < 0.8 * before
