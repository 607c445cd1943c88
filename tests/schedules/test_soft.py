"""Soft filter pruning: filters may come back, and fade as the factors say."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from hwprune.graph.channels import Member
from hwprune.schedules.catalogue import schedule_of
from hwprune.schedules.schedule import Schedule
from hwprune.schedules.soft import Soft, growing
from hwprune.train.channels import Channels, Filter, Part


def run(schedule: Soft, start: torch.Tensor, pull: torch.Tensor, steps: int,
        gone: int) -> tuple[Channels, list[set[int]]]:  # fmt: skip
    """Every channel moves by `pull` a step; the selections, one after the other."""
    weight = nn.Parameter(start.clone())
    part = Part(weight, 0, Member("w", 0, np.arange(len(start))[:, None]))
    own = Channels(len(start), [Filter(part)], [part], [part])
    schedule.bind({"g": own}, {"g": gone})
    schedule.start(steps, steps // 10, 0.1)
    found = []
    for step in range(steps):
        with torch.no_grad():
            weight += pull
        schedule.after_step(0.1)
        if (step + 1) % schedule.every == 0:
            found.append(set(schedule.selected["g"].nonzero().ravel().tolist()))
    return own, found


@pytest.mark.parametrize("name", ["sfp", "srfp"])
def test_a_filter_leaves_the_selection_again(name: str) -> None:
    schedule = schedule_of(name)
    assert isinstance(schedule, Soft)
    start = torch.tensor([0.1, 0.6, 1.0, 1.0])
    _, found = run(schedule, start, torch.tensor([0.03, -0.006, 0.0, 0.0]), 100, gone=1)
    assert found[0] == {0}
    assert found[-1] == {1}
    assert schedule.kept() == {"g": (0, 2, 3)}


def test_fading_from_nothing_is_soft_filter_pruning_to_the_bit() -> None:
    torch.manual_seed(0)
    start, pull = torch.rand(8), torch.rand(8) * 0.01
    a, first = run(Soft(alpha=0.0), start, pull, 60, 3)
    plain = schedule_of("sfp")
    assert isinstance(plain, Soft)
    b, second = run(plain, start, pull, 60, 3)
    assert torch.equal(a.parts[0].parameter, b.parts[0].parameter)
    assert first == second


def test_a_filter_that_is_always_selected_fades_by_the_product_of_the_factors() -> None:
    schedule = schedule_of("srfp")
    assert isinstance(schedule, Soft)
    start = torch.tensor([0.5, 1.0, 2.0])
    own, found = run(schedule, start, torch.zeros(3), 50, gone=1)
    assert set.union(*found) == {0}
    rounds = 50 // schedule.every
    expected = 0.5 * math.prod(schedule.factor(k / rounds) for k in range(1, rounds))
    before = 0.5 * math.prod(schedule.factor(k / rounds) for k in range(1, rounds - 1))
    last = float(own.parts[0].parameter.detach()[0])
    assert last == pytest.approx(expected * schedule.factor(1.0))
    assert 0 < expected < before < 0.5


@pytest.mark.parametrize("name", ["asfp", "asrfp"])
def test_ever_more_filters(name: str) -> None:
    schedule = schedule_of(name)
    assert isinstance(schedule, Soft)
    _, found = run(schedule, torch.rand(40) + 1, torch.zeros(40), 100, gone=20)
    sizes = [len(f) for f in found]
    assert sizes == sorted(sizes)
    assert sizes[0] < 15
    assert sizes[-1] == 20
    assert [growing(x) for x in (0.0, 1 / 8, 1.0)] == pytest.approx([0, 0.75, 1])


def test_one_factor_a_round_equals_a_penalty() -> None:
    """alpha once every I steps is a factor of 1 - rate * penalty in each: the papers' identity."""
    alpha, steps, rate = 0.6, 7, 0.05
    penalty = (1 - alpha ** (1 / steps)) / rate
    assert (1 - rate * penalty) ** steps == pytest.approx(alpha)


def test_schedules_differ_in_what_they_may_be_told() -> None:
    soft = schedule_of("sfp:every=3,power=1,share=0.7")
    assert isinstance(soft, Soft)
    assert (soft.power, soft.share) == (1, 0.7)
    assert Schedule.share == 0.5
