"""Trainings of a compile: schedules, minutes and recipes, and what is refused before they start."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hwprune
from hwprune.errors import UsageError
from hwprune.plan import Plan
from hwprune.stages.training import training_of
from hwprune.train.snapshots import Snapshots

pytestmark = pytest.mark.ort
Options = Callable[..., hwprune.CompileOptions]


@pytest.mark.parametrize("schedule", ["increg", "asfp:share=0.7", "greg1:integers=1"])
def test_a_compile_under_a_schedule(ask: Options, tmp_path: Path, schedule: str) -> None:
    """The plan's widths, and the schedule's channels."""
    options = ask(tmp_path / "out", "0.15x", schedule=schedule, epochs=2)
    report = hwprune.compile(options)
    assert report.verdict == "met"
    names = [stage.name for stage in report.stages]
    assert names.index("shrink") < names.index("recover")
    assert "slim" not in names
    plan = Plan.from_json((tmp_path / "out" / "plan.json").read_text())
    assert plan.keep
    shapes = {layer.name: layer.kept for layer in report.layers}
    for group, kept in plan.keep.items():
        assert shapes[group][1] == len(kept)
    module = hwprune.load(tmp_path / "out")
    assert sum(p.numel() for p in module.parameters()) == report.params.compiled


def test_minutes_bound_the_training(ask: Options, tmp_path: Path) -> None:
    spent = {}
    for minutes in (0.05, 0.1):
        out = tmp_path / str(minutes)
        report = hwprune.compile(ask(out, "0.15x", train_minutes=minutes, schedule="sfp"))
        seconds = {stage.name: stage.seconds for stage in report.stages}
        spent[minutes] = sum(seconds[name] for name in ("shrink", "recover", "qat"))
        assert 0.9 * 60 * minutes < spent[minutes]
    assert 2 < spent[0.1] - spent[0.05] < 15


def test_a_finished_training_is_not_begun_again(ask: Options, tmp_path: Path) -> None:
    """Only its last state is needed: a run that is killed while it is timed loses no epoch."""
    options = ask(tmp_path / "out", "0.15x", epochs=1, schedule="increg")
    hwprune.compile(options)
    kept = {p.name for p in (tmp_path / "out" / "run").glob("*.safetensors")}
    assert {"shrink.safetensors", "recover.safetensors", "qat.safetensors"} <= kept
    training = training_of(options, tmp_path / "out" / "run")
    assert training is not None
    snapshots = training.snapshots("recover", Plan())
    assert isinstance(snapshots, Snapshots)
    assert snapshots.take() is None  # of another plan


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"schedule": "increg"}, "--epochs 10"),
        ({"schedule": "incrge", "epochs": 1}, "increg"),
        ({"schedule": "increg:ratio=10000", "epochs": 2}, "a ratio of at most"),
        ({"schedule": "greg1:delta=1e-4,ceiling=1", "epochs": 2}, "more epochs"),
        ({"epochs": 1, "train_minutes": 1.0}, "give one"),
        ({"train_minutes": -1.0}, "more than 0"),
        ({"epochs": 1, "recipe": {"label-weight": "1"}}, "labels"),
        ({"epochs": 1, "recipe": {"optimiser": "sgd"}}, "optimizer"),
        ({"epochs": 1, "recipe": {"optimizer": "lion"}}, "sgd, adamw"),
        ({"epochs": 1, "recipe": {"ema": "much"}}, "number"),
        ({"epochs": 1, "recipe": {"half": "yes"}}, "on or off"),
        ({"epochs": 1, "recipe": {"epochs": "3"}}, "setting of a recipe"),
    ],
)
def test_what_is_refused_before_anything_is_done(
    ask: Options, tmp_path: Path, more: dict[str, Any], said: str
) -> None:
    start = time.perf_counter()
    with pytest.raises(UsageError) as refused:
        hwprune.compile(ask(tmp_path / "out", "0.15x", **more))
    assert said in f"{refused.value} {refused.value.hint}"
    assert time.perf_counter() - start < 20
    assert not (tmp_path / "out" / "run" / "recover.safetensors").exists()


def test_labels_alone_may_teach(ask: Options, labelled: Path, tmp_path: Path) -> None:
    recipe = {"label-weight": "1", "label-smoothing": "0.1", "optimizer": "adamw", "rate": "0.001",
              "curve": "step", "mixup": "0.2", "ema": "0.9"}  # fmt: skip
    asked = ask(tmp_path / "out", "0.15x", data=str(labelled), epochs=1, recipe=recipe)
    report = hwprune.compile(asked)
    assert report.verdict == "met"
    assert np.isfinite(report.quality.compiled)
