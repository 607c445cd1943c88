"""IncReg: the growth of its factors, whom it takes, and how gently."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from hwprune.errors import UsageError
from hwprune.graph.channels import Member
from hwprune.schedules.floor import stages
from hwprune.schedules.increg import IncReg, increment, steps_for
from hwprune.schedules.schedule import Task
from hwprune.train.channels import Channels, Filter, Part


def channels(values: torch.Tensor) -> Channels:
    part = Part(nn.Parameter(values.clone()), 0, Member("w", 0, np.arange(len(values))[:, None]))
    return Channels(len(values), [Filter(part)], [part], [part])


def run(schedule: IncReg, held: torch.Tensor, start: torch.Tensor, gone: int, steps: int,
        rate: float = 0.05) -> tuple[list[torch.Tensor], list[torch.Tensor]]:  # fmt: skip
    """Plain gradient descent on sum held (w - 1)^2 / 2; factors and weights after every step."""
    own = channels(start)
    weight = own.parts[0].parameter
    schedule.bind({"g": own}, {"g": gone})
    schedule.start(steps, steps, rate)
    factors, weights = [], []
    for _ in range(steps):
        with torch.no_grad():
            weight -= rate * held * (weight - 1)
        schedule.after_step(rate)
        factors.append(schedule.factors["g"].clone())
        weights.append(weight.detach().clone())
        if schedule.done:
            break
    return factors, weights


@pytest.mark.parametrize("count", [1, 4, 40])
def test_identities_of_the_growth(count: int) -> None:
    u = 0.25
    turn = math.log(1 / u) / (math.log(2 / u) / count)
    at = increment(torch.tensor([0.0, turn, count], dtype=torch.float64), count)
    torch.testing.assert_close(at, torch.tensor([1.0, u, 0.0], dtype=torch.float64))
    x = torch.linspace(0, turn, 7, dtype=torch.float64)
    both = increment(turn - x, count) + increment(turn + x, count)
    torch.testing.assert_close(both, torch.full((7,), 2 * u, dtype=torch.float64))
    assert float(increment(torch.tensor([count + 1.0]), count)) < 0


def test_a_channel_that_grows_back_is_kept_and_its_factor_falls() -> None:
    """The smaller channel is the only useful one: magnitude alone would take it."""
    start, held = torch.tensor([0.3, 0.5, 0.6]), torch.tensor([4.0, 0.0, 0.0])
    schedule = IncReg(ratio=60)
    factors, _ = run(schedule, held, start, gone=1, steps=400)
    assert schedule.kept() == {"g": (0, 2)}
    of_first = [float(f[0]) for f in factors]
    assert any(b < a for a, b in pairwise(of_first))
    assert min(of_first) >= 0
    assert max(of_first) > 0


def test_removal_is_gentle() -> None:
    """What goes has all but vanished before it goes."""
    torch.manual_seed(0)
    start = torch.rand(20) + 0.5
    schedule = IncReg()
    _, weights = run(schedule, torch.full((20,), 0.2), start, gone=8, steps=600)
    before: dict[int, float] = {}
    for earlier, later in pairwise(weights):
        for i in ((later == 0) & (earlier != 0)).nonzero().ravel().tolist():
            before[i] = float(earlier[i] / start[i])
    assert len(before) == 8
    assert max(before.values()) < 0.05


@pytest.mark.parametrize(("width", "gone"), [(7, 3), (16, 15), (9, 1)])
def test_exactly_so_many_go(width: int, gone: int) -> None:
    torch.manual_seed(1)
    schedule = IncReg()
    run(schedule, torch.rand(width), torch.rand(width) + 0.1, gone, 500)
    assert schedule.done
    assert len(schedule.kept()["g"]) == width - gone
    assert int(schedule.gone["g"].sum()) == gone
    assert bool((schedule.factors["g"] == 0).all())  # what stays is let go


def test_steps_are_foreseen() -> None:
    """Nothing pulls the weights back here, so ranks do not change."""
    for gone in (1, 5, 12):
        schedule = IncReg(ratio=40)
        start = torch.linspace(1, 2, 20)
        factors, _ = run(schedule, torch.zeros(20), start, gone, 5000, rate=1e-4)
        assert len(factors) == pytest.approx(40 * steps_for(gone), rel=0.03)
        own = {"g": gone}
        assert schedule.plan(Task(own, {"g": 20}, 5000, 100, 1e-4)) == pytest.approx(
            len(factors), abs=gone + 2
        )


def test_the_paper_simulated() -> None:
    """40 of 100 channels take about 5.1 times as long as the first one."""
    assert steps_for(40) == pytest.approx(5.1, abs=0.15)


def test_a_ratio_that_does_not_fit_is_refused_with_one_that_does() -> None:
    task = Task({"g": 10}, {"g": 20}, 300, 100, 0.05)
    with pytest.raises(UsageError, match="300") as refused:
        IncReg(ratio=10_000).plan(task)
    longest = int(str(refused.value.hint).split()[-1])
    assert IncReg(ratio=longest).plan(task) <= 300
    with pytest.raises(UsageError):
        IncReg(ratio=1.1 * longest).plan(task)


@pytest.mark.parametrize("cliff", [0.05, 0.33, 0.61, 0.87])
@pytest.mark.parametrize("slope", [0.0, 0.1, 3.0])
def test_stages_find_the_largest_ratio(cliff: float, slope: float) -> None:
    """Accuracy that is flat, or falls, and then breaks off."""
    at: list[float] = [0.0]

    def attempt(ratio: float) -> float:
        assert ratio > at[0]  # never below what is known to do
        return 0.92 - slope * ratio**3 / 100 - (0.4 if ratio > cliff else 0.0)

    tried = []
    for one in stages(attempt, 0.9):
        tried.append(one)
        at[0] = max([at[0], one.ratio]) if one.keeps else at[0]
    assert at[0] == pytest.approx(cliff, abs=0.01)
    assert at[0] <= cliff
    assert len(tried) < 20
    assert any(not one.keeps for one in tried)


def test_stages_stop_at_the_cap() -> None:
    tried = list(stages(lambda _ratio: 1.0, 0.5))
    assert tried[-1].ratio == pytest.approx(0.9)
    assert all(one.keeps for one in tried)
