"""Networks that are trained under a schedule end slim."""

from pathlib import Path

import pytest
import torch

from hwprune.errors import UsageError
from hwprune.graph.cost import params
from hwprune.network.run import outputs
from hwprune.network.twin import to_module
from hwprune.plan import Plan
from hwprune.registry import METHODS
from hwprune.schedules.catalogue import ONE_SHOT, SCHEDULES, schedule_of
from hwprune.schedules.floor import prune_to_floor
from hwprune.schedules.schedule import Schedule
from hwprune.schedules.shrink import Shrunk, foreseen, shrink
from hwprune.train.recipe import Recipe
from hwprune.train.recover import recover
from hwprune.train.snapshots import Snapshots

from .conftest import Trained

EPOCHS = 8


def halved(digits: Trained) -> Plan:
    groups = digits.coupling.prunable
    return Plan({g.name: tuple(range(g.width // 2)) for g in groups})


def run(
    digits: Trained, name: str, plan: Plan, seed: int = 0, snapshots: Snapshots | None = None,
    epochs: float = EPOCHS,
) -> tuple[Shrunk, Schedule]:  # fmt: skip
    schedule = schedule_of(name)
    assert schedule is not None
    found = shrink(
        digits.graph, digits.coupling, plan, schedule, digits.train, Recipe(epochs), seed,
        digits.calibration, snapshots=snapshots,
    )  # fmt: skip
    return found, schedule


@pytest.mark.parametrize("name", SCHEDULES)
def test_half_of_every_group_goes_and_digits_are_still_told_apart(
    digits: Trained, name: str
) -> None:
    plan = halved(digits)
    found, schedule = run(digits, name, plan)
    widths = {g: len(k) for g, k in found.plan.keep.items()}
    assert widths == plan.configuration.widths
    assert params(found.graph) < 0.35 * params(digits.graph)
    weights = to_module(found.graph).parameters()
    filters = [w.detach().flatten(1).norm(dim=1) for w in weights if w.ndim == 4]
    assert min(float(f.max()) for f in filters) > 0
    assert digits.accuracy(found.graph) > (0.2 if schedule.criterion is None else 0.6)
    rest = Recipe(EPOCHS * (1 - schedule.share))
    final = recover(found.graph, digits.graph, digits.train, rest, 0)
    assert digits.accuracy(final) > 0.93


def test_every_schedule_is_listed() -> None:
    assert set(METHODS["schedule"]) == {ONE_SHOT, *SCHEDULES}
    assert schedule_of(ONE_SHOT) is None


@pytest.mark.parametrize("name", ["increg", "greg2", "asfp", "iterative"])
def test_a_schedule_goes_on_after_a_kill(digits: Trained, name: str, tmp_path: Path) -> None:
    plan, epochs = halved(digits), 4
    whole, _ = run(digits, name, plan, epochs=epochs)
    schedule = schedule_of(name)
    assert schedule is not None
    after = schedule.after_step
    counted = 0

    def failing(rate: float) -> None:
        nonlocal counted
        counted += 1
        if counted == 50:
            raise KeyboardInterrupt
        after(rate)

    schedule.after_step = failing  # type: ignore[method-assign]
    snapshots = Snapshots(tmp_path / "state", "same")
    recipe = Recipe(epochs)
    with pytest.raises(KeyboardInterrupt):
        shrink(digits.graph, digits.coupling, plan, schedule, digits.train, recipe, 0,
               digits.calibration, snapshots=snapshots)  # fmt: skip
    again, _ = run(digits, name, plan, snapshots=snapshots, epochs=epochs)
    assert again.plan == whole.plan
    x = torch.from_numpy(digits.held_out.batch(slice(0, 32)))
    ours, theirs = (outputs(to_module(g.graph), x)[0] for g in (again, whole))
    assert torch.equal(ours, theirs)


def test_nothing_is_left_of_what_increg_takes(digits: Trained) -> None:
    plan = halved(digits)
    found, schedule = run(digits, "increg", plan)
    assert schedule.done
    norms = {n: c.norms(1) for n, c in schedule.channels.items()}
    for name, kept in found.plan.keep.items():
        gone = [i for i in range(len(norms[name])) if i not in kept]
        assert float(norms[name][gone].max()) == 0.0


def test_steps_are_foreseen(digits: Trained) -> None:
    plan = halved(digits)
    removals = {g: digits.coupling.full[g] - len(k) for g, k in plan.keep.items()}
    schedule = schedule_of("increg")
    assert schedule is not None
    told = foreseen(schedule, removals, digits.coupling, digits.train, Recipe(EPOCHS))
    _, ran = run(digits, "increg", plan)
    assert ran.counted == pytest.approx(told, rel=0.1)  # type: ignore[attr-defined]


def test_a_layer_cannot_be_emptied(digits: Trained) -> None:
    group = digits.coupling.prunable[0].name
    with pytest.raises(UsageError, match="would keep 0"):
        run(digits, "sfp", Plan({group: ()}))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("incregg", "increg"),
        ("increg:ratios=3", "ceiling, integers, ratio, share"),
        ("increg:ratio=-1", "positive"),
        ("increg:ratio", "increg:share=0.5"),
        ("sfp:share=1.5", "between 0 and 1"),
        ("one-shot:ratio=3", "ratio"),
    ],
)
def test_what_cannot_be_asked_for(text: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        schedule_of(text)
    assert said in f"{refused.value} {refused.value.hint}"


def test_as_many_channels_as_an_accuracy_allows(digits: Trained) -> None:
    found = prune_to_floor(
        digits.graph, 0.9, digits.accuracy, digits.train, Recipe(3), 0, digits.calibration
    )
    assert digits.accuracy(found.graph) >= 0.9 - 5e-4
    assert found.ratio > 0.2
    assert any(not one.keeps for one in found.attempts) or found.ratio == pytest.approx(0.9)
    assert params(found.graph) < params(digits.graph)
