"""GReg: penalties that grow, and what they tell of curvature."""

import numpy as np
import pytest
import torch
from torch import nn

from hwprune.errors import UsageError
from hwprune.graph.channels import Member
from hwprune.schedules.greg import GReg1, GReg2
from hwprune.schedules.schedule import Task
from hwprune.train.channels import Channels, Filter, Part


def quadratic(schedule: GReg1, start: list[float], held: list[float], steps: int,
              rate: float = 1e-3) -> tuple[Channels, list[torch.Tensor]]:  # fmt: skip
    """Gradient descent on sum h (w - start)^2 / 2, one weight a channel; one channel is to go."""
    minimum, h = torch.tensor(start), torch.tensor(held)
    weight = nn.Parameter(minimum.clone())
    part = Part(weight, 0, Member("w", 0, np.arange(len(start))[:, None]))
    own = Channels(len(start), [Filter(part)], [part], [part])
    schedule.bind({"g": own}, {"g": 1})
    schedule.start(steps, steps, rate)
    seen = []
    for _ in range(steps):
        with torch.no_grad():
            weight -= rate * h * (weight - minimum)
        schedule.after_step(rate)
        seen.append(weight.detach().clone())
        if schedule.done:
            break
    return own, seen


def test_growth_tells_curvature_and_magnitude_does_not() -> None:
    """h = (100, 1), w* = (0.10, 0.30): h w*^2 / 2 is 0.5 and 0.045, so the second must go."""
    schedule = GReg2(delta=1e-2, ceiling=40.0, every=1, pick=4.0)
    schedule.slow = 1e-3
    _, seen = quadratic(schedule, [0.10, 0.30], [100.0, 1.0], steps=12_000, rate=5e-3)
    assert schedule.kept() == {"g": (0,)}
    plain, _ = quadratic(GReg1(), [0.10, 0.30], [100.0, 1.0], steps=200)
    assert GReg1().picks is False
    assert int(plain.norms(1).argmin()) == 0  # which is what the first kind would take
    # just before the choice the penalty was 4: h w* / (h + 4)
    chosen = next(i for i, w in enumerate(seen) if float(w[0]) > float(seen[i - 1][0]) and i > 10)
    torch.testing.assert_close(
        seen[chosen - 1], torch.tensor([10 / 104, 0.3 / 5]), rtol=0.02, atol=0
    )


def test_the_first_kind_takes_the_least_weight_and_leaves_the_rest_alone() -> None:
    schedule = GReg1()
    own, _ = quadratic(schedule, [0.10, 0.30, 0.50], [100.0, 1.0, 2.0], steps=2000)
    assert schedule.kept() == {"g": (1, 2)}
    norms = own.norms(1)
    torch.testing.assert_close(norms[1:], torch.tensor([0.30, 0.50]))
    assert float(norms[0]) < 0.02 * 0.10 + 0.02  # held by a curvature of 100


def test_what_goes_ends_below_a_thousandth_of_what_stays() -> None:
    schedule = GReg1()
    own, seen = quadratic(schedule, [0.2, 0.4, 0.6], [0.1, 0.1, 0.1], steps=4000, rate=1e-2)
    assert schedule.done
    assert len(seen) < 4000
    norms = own.norms(1)
    assert float(norms[0]) < 1e-3 * float(norms[1:].mean())


def test_the_paper_does_not_fit_a_short_training() -> None:
    task = Task({"g": 1}, {"g": 4}, 1000, 100, 1e-2)
    with pytest.raises(UsageError, match="greg1 takes 50000 steps"):
        GReg1(delta=1e-4, ceiling=1.0, every=5).plan(task)
    assert GReg1(delta=1e-2, ceiling=1.0, every=5).plan(task) == 500
    assert GReg1().plan(task) <= 1000


def test_the_second_kind_grows_on_all_before_it_chooses() -> None:
    schedule = GReg2()
    _, seen = quadratic(schedule, [0.10, 0.30], [0.0, 0.0], steps=1000, rate=1e-2)
    early = seen[200] / torch.tensor([0.10, 0.30])
    assert float(early.max()) < 0.9
    torch.testing.assert_close(early[0], early[1])
    assert float(seen[-1].min()) < 1e-3 * float(seen[-1].max())
