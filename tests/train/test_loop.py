"""The training loop: what it goes on with, how long it takes, and what may act on it."""

import math
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
import pytest
import torch
import torch.nn.functional as F
from torch import fx

from hwprune.errors import UsageError
from hwprune.frontend.dataset import DataSet
from hwprune.network.run import outputs
from hwprune.network.twin import to_module
from hwprune.train.features import Features
from hwprune.train.feed import Feed
from hwprune.train.hooks import Hook
from hwprune.train.loop import fit
from hwprune.train.loss import as_tuple, distillation
from hwprune.train.optimizers import share_of_rate
from hwprune.train.recipe import Recipe
from hwprune.train.snapshots import Snapshots


class Killed(Exception):
    pass


class Counting(Hook):
    """Counts what happens, and may stop it."""

    def __init__(self, fails: int = 0, ends: int = 0) -> None:
        self.steps = 0
        self.fails, self.ends = fails, ends

    def after_step(self, rate: float) -> None:
        assert rate > 0
        self.steps += 1
        if self.steps == self.fails:
            raise Killed

    @property
    def done(self) -> bool:
        return bool(self.ends) and self.steps >= self.ends

    def state(self) -> Mapping[str, Any]:
        return {"steps": self.steps, "some": torch.ones(2)}

    def load(self, state: Mapping[str, Any]) -> None:
        self.steps = state["steps"]
        assert torch.equal(state["some"], torch.ones(2))


def noisy(graph: gs.Graph) -> fx.GraphModule:
    module = to_module(graph)
    torch.manual_seed(1)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(torch.randn_like(p) * 0.3 * p.std().nan_to_num(1e-3))
    return module


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("extra", [{}, {"mixup": 0.4, "ema": 0.9, "feature_weight": 0.1}])
def test_a_killed_training_goes_on_to_the_same_weights(
    original: gs.Graph, data: DataSet, tmp_path: Path, optimizer: str, extra: dict[str, float]
) -> None:
    rate = 0.02 if optimizer == "sgd" else 1e-3
    recipe = Recipe(2, rate, optimizer=optimizer, **extra)  # type: ignore[arg-type]
    few, teacher = data.select(slice(400)), to_module(original)
    whole, killed = noisy(original), noisy(original)
    first = fit(whole, teacher, few, recipe, 0)
    snapshots = Snapshots(tmp_path / "state", "this")
    with pytest.raises(Killed):
        fit(killed, teacher, few, recipe, 0, hooks=[Counting(fails=50)], snapshots=snapshots)
    counts = Counting()
    again = noisy(original)
    second = fit(again, teacher, few, recipe, 0, hooks=[counts], snapshots=snapshots)
    assert counts.steps == 2 * Feed(few, 0, torch.device("cpu")).steps > 50
    assert second == first
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_snapshots_of_another_training_are_not_seen(tmp_path: Path) -> None:
    state = {"a": torch.arange(3), "b": [1, math.inf, {2: "x"}], "none": None}
    Snapshots(tmp_path / "state", "one").keep(state)
    assert Snapshots(tmp_path / "state", "other").take() is None
    found = Snapshots(tmp_path / "state", "one").take()
    assert found is not None
    assert found["b"] == [1, math.inf, {2: "x"}]
    assert torch.equal(found["a"], state["a"])
    (tmp_path / "state").write_bytes((tmp_path / "state").read_bytes()[:-1])
    assert Snapshots(tmp_path / "state", "one").take() is None
    assert Snapshots(tmp_path / "nowhere", "one").take() is None


SCRIPT = """
import sys
from pathlib import Path
import numpy as np, torch
from hwprune.frontend.dataset import DataSet
from hwprune.frontend.module import graph_from_module
from hwprune.network.twin import to_module
from hwprune.train.loop import fit
from hwprune.train.recipe import Recipe
from hwprune.train.snapshots import Snapshots
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.ReLU(), torch.nn.Linear(32, 4))
graph = graph_from_module(net, (torch.zeros(1, 8),))
data = DataSet(np.random.default_rng(0).normal(size=(400, 8)).astype(np.float32))
student = to_module(graph)
with torch.no_grad():
    for p in student.parameters():
        p.mul_(0.5)
snapshots = Snapshots(Path(sys.argv[1]), "kill")
told = lambda done, total, text: print(done, flush=True)
print("loss", fit(student, to_module(graph), data, Recipe(80, 0.05), 0, told, snapshots=snapshots))
"""


def test_kill_9_loses_less_than_a_minute(tmp_path: Path) -> None:
    """A process that is killed, and one that is left alone, end alike."""

    def start(path: Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", SCRIPT, str(path)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    alone = start(tmp_path / "alone").communicate()[0].splitlines()
    process = start(tmp_path / "killed")
    assert process.stdout is not None
    while int(process.stdout.readline()) < 1000:
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    again = start(tmp_path / "killed").communicate()[0].splitlines()
    assert again[-1] == alone[-1]
    assert int(again[0]) > 900


def test_a_budget_in_minutes_is_kept(original: gs.Graph, data: DataSet) -> None:
    seen: list[tuple[int, int]] = []
    start = time.perf_counter()
    recipe = Recipe(1000, 0.02, minutes=0.05)
    fit(noisy(original), to_module(original), data, recipe, 0, lambda *s: seen.append(s[:2]))
    assert 2.9 < time.perf_counter() - start < 8
    assert len(seen) > 10
    assert [done for done, _ in seen] == list(range(1, len(seen) + 1))
    assert seen[-1][0] <= seen[-1][1] < 1.2 * seen[-1][0]


def test_a_hook_ends_a_training_and_adds_to_its_loss(original: gs.Graph, data: DataSet) -> None:
    student = noisy(original)
    weight = next(student.parameters())
    before = float(weight.detach().square().sum())

    class Shrinking(Counting):
        def loss(self) -> torch.Tensor:
            return 10 * weight.square().sum()

    hook = Shrinking(ends=20)
    fit(student, to_module(original), data, Recipe(9, 0.02, keeps_best=False), 0, hooks=[hook])
    assert hook.steps == 20
    assert float(weight.detach().square().sum()) < 0.5 * before


def test_what_only_a_hook_moves_has_the_gradient_of_the_step(
    original: gs.Graph, data: DataSet
) -> None:
    student, seen = noisy(original), list[torch.Tensor]()
    own = torch.nn.Parameter(torch.zeros(3))
    others = list(student.parameters())
    student.register_parameter("own", own)

    class Moving(Hook):
        def loss(self) -> torch.Tensor:
            return own.sum()

        def after_step(self, rate: float) -> None:
            assert own.grad is not None
            seen.append(own.grad.clone())

    fit(student, to_module(original), data.select(slice(200)), Recipe(1, clip=math.inf), 0,
        optimizer=lambda _, rate: torch.optim.SGD(others, rate), hooks=[Moving()])  # fmt: skip
    assert len(seen) > 5
    assert all(torch.equal(gradient, torch.ones(3)) for gradient in seen)


@pytest.mark.parametrize("recipe", [Recipe(2), Recipe(2, minutes=0.01)])
def test_a_hook_is_told_how_far_it_is_and_tells_it(
    original: gs.Graph, data: DataSet, recipe: Recipe
) -> None:
    seen: list[tuple[int, int]] = []

    class Telling(Hook):
        def start(self, steps: int, epoch: int, rate: float) -> None:
            seen.append((0, steps))

        def progressed(self, done: int, total: int) -> None:
            seen.append((done, total))

        @property
        def told(self) -> str:
            return f"{len(seen)} seen"

    heard: list[tuple[int, int, str]] = []
    few = data.select(slice(300))
    hooks = [Telling(), Hook()]
    fit(noisy(original), to_module(original), few, recipe, 0, lambda *a: heard.append(a),
        hooks=hooks)  # fmt: skip
    assert [(done, total) for done, total, _ in heard] == seen[1:]
    assert seen[0][1] > 0
    assert heard[-1][2].endswith(f", {len(seen)} seen")


def test_curves() -> None:
    cosine, step = Recipe(1, 1, warmup=0.1), Recipe(1, 1, warmup=0.1, curve="step")
    shares = (0.05, 0.1, 0.55, 1.0)
    assert [share_of_rate(cosine, s) for s in shares] == pytest.approx([0.5, 1, 0.5, 0])
    shares = (0.05, 0.3, 0.5, 0.74, 0.75, 1.0)
    assert [share_of_rate(step, s) for s in shares] == [0.5, 1, 0.1, 0.1, 0.01, 0.01]


def test_mixed_samples_and_labels_have_the_same_shares(data: DataSet) -> None:
    labels = np.arange(len(data)) % 5
    feed = Feed(DataSet(data.x, labels), 0, torch.device("cpu"), mixup=1.0)
    batch = next(feed.batches(feed.order(), 0))
    x = torch.from_numpy(data.x)
    plain = x[batch.index]
    assert batch.y is not None
    assert batch.mixed is not None
    others = [
        int(i)
        for i in range(len(plain))
        for rest in [(batch.x[0][i] - batch.weight * plain[i]) / (1 - batch.weight)]
        if any(
            torch.allclose(rest, plain[j], atol=1e-4) and int(batch.y[j]) == int(batch.mixed[i])
            for j in range(len(plain))
        )
    ]
    assert len(others) == len(plain)


def test_features_are_those_of_residual_sums(original: gs.Graph, data: DataSet) -> None:
    student, teacher, x = noisy(original), to_module(original), torch.from_numpy(data.x[:32])
    both = Features(student, teacher, (x,))
    assert len(both.tensors) == 1
    out, inner = both.parts(as_tuple(both.student(x)))
    _, theirs = both.parts(as_tuple(both.teacher(x)))
    torch.testing.assert_close(out[0], student(x))
    expected = F.mse_loss(inner[0], theirs[0]) / theirs[0].var()
    torch.testing.assert_close(both.distance(inner, theirs), expected)


def test_features_bring_inner_tensors_nearer(original: gs.Graph, data: DataSet) -> None:
    def apart(weight: float) -> float:
        student, teacher = noisy(original), to_module(original)
        fit(student, teacher, data, Recipe(3, 0.02, feature_weight=weight), 0)
        both = Features(student, teacher, (torch.from_numpy(data.x[:256]),))
        inner = [both.parts(as_tuple(m(torch.from_numpy(data.x[:256]))))[1]
                 for m in (both.student, both.teacher)]  # fmt: skip
        return float(both.distance(*inner).detach())

    assert apart(3.0) < 0.7 * apart(0.0)


def test_the_running_mean_is_what_is_kept(original: gs.Graph, data: DataSet) -> None:
    student, teacher = noisy(original), to_module(original)
    weight = next(student.parameters())
    means: list[torch.Tensor] = []

    class Averaging(Hook):
        def after_step(self, rate: float) -> None:
            now = weight.detach().clone()
            means.append(0.9 * means[-1] + 0.1 * now if means else now)

    recipe = Recipe(1, 0.02, ema=0.9, keeps_best=False)
    fit(student, teacher, data, recipe, 0, hooks=[Averaging()])
    torch.testing.assert_close(weight.detach(), means[-1])


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        (Recipe(1, 0.1, label_weight=1.0), "labels"),
        (Recipe(1, 0.1, optimizer="lion"), "optimizer"),
        (Recipe(1, 0.1, curve="line"), "curve"),
        (Recipe(1, -0.1), "rate"),
        (Recipe(1, 0.1, ema=1.5), "ema"),
    ],
)
def test_recipes_that_cannot_be_followed(
    original: gs.Graph, data: DataSet, recipe: Recipe, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        fit(to_module(original), to_module(original), data, recipe, 0)


def test_adamw_brings_a_student_nearer(original: gs.Graph, data: DataSet) -> None:
    student, teacher = noisy(original), to_module(original)
    x = data.x[:512]

    def apart() -> float:
        ours, theirs = outputs(student, x), outputs(teacher, x)
        return float(distillation(tuple(ours), tuple(theirs), 1.0))

    before = apart()
    fit(student, teacher, data, Recipe(4, 3e-3, optimizer="adamw", curve="step"), 0)
    assert apart() < before / 4
