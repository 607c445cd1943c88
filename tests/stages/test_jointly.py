"""`--search joint` from end to end, on the null target."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hwprune.backends.null import NullBackend

import hwprune
from hwprune.errors import InfeasibleError, UnsupportedModelError, UsageError
from hwprune.plan import Plan
from hwprune.stages import jointly
from hwprune.testing.networks import Builder, pooled_head
from hwprune.train import loop

Options = Callable[..., hwprune.CompileOptions]


def test_a_file_of_that_size_with_bits_for_every_output(ask: Options, tmp_path: Path) -> None:
    asked = ask(tmp_path, "1x", search="joint", max_size=30_000, epochs=1)
    report = hwprune.compile(asked)
    plan = Plan.from_json((tmp_path / "plan.json").read_text())
    size = (tmp_path / "model.onnx").stat().st_size
    assert report.verdict == "met"
    assert 0.9 * 30_000 < size <= 30_000 == report.budget.max_bytes
    assert report.search.strategy == "joint"
    assert report.params.compiled < report.params.original
    assert all(len(kept) % 4 == 0 for kept in plan.keep.values())  # what kernels like
    assert set().union(*plan.channel_bits.values()) <= {2, 4, 8}
    hwprune.load(tmp_path)


def test_a_size_out_of_reach_is_no_network(ask: Options, tmp_path: Path) -> None:
    with pytest.raises(InfeasibleError, match="with the fewest bits"):
        hwprune.compile(ask(tmp_path, "1x", search="joint", max_size=4_000, epochs=1))


def test_a_killed_run_goes_on_with_what_was_trained(
    ask: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(out: str) -> hwprune.CompileOptions:
        return ask(tmp_path / out, "1x", search="joint", max_size=30_000, epochs=1)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(jointly, "time_file", killed)
        with pytest.raises(KeyboardInterrupt):
            hwprune.compile(asked("killed"))
    with monkeypatch.context() as patch:  # not one step of either training is taken again
        patch.setattr(loop._Training, "_step", killed)
        hwprune.compile(asked("killed"))
    hwprune.compile(asked("alone"))
    for name in ("plan.json", "model.onnx"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()


def test_minutes_are_shared_by_both_trainings(ask: Options, tmp_path: Path) -> None:
    minutes = 0.1
    report = hwprune.compile(
        ask(tmp_path, "1x", search="joint", max_size=30_000, train_minutes=minutes)
    )
    seconds = {stage.name: stage.seconds for stage in report.stages}
    for name in ("search", "qat"):
        assert 0.9 * 30 * minutes < seconds[name] < 30 * minutes + 15


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({}, "none is given"),
        ({"max_size": 30_000, "schedule": "sfp", "epochs": 1}, "a schedule of its own"),
        ({"max_size": 30_000, "pareto": 3}, "one training"),
        ({"max_size": 30_000, "study": "mine"}, "one training"),
        ({"max_size": 30_000, "data": None}, "has no data"),
    ],
)
def test_what_it_does_not_do_is_said_before_anything_is_measured(
    more: dict[str, object], what: str, ask: Options, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=what):
        hwprune.compile(ask(tmp_path / "out", "1x", search="joint", **more))
    assert not (tmp_path / "out").exists()


def test_neither_are_networks_and_targets_that_it_cannot_train_for(
    ask: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(**more: object) -> hwprune.CompileOptions:
        return ask(tmp_path / "out", "1x", search="joint", max_size=30_000, **more)

    b = Builder(0, (3, 12, 12))
    x = b.add("Shrink", [b.relu(b.conv("x", 32))], (32, 12, 12), lambd=0.05)
    strange = tmp_path / "strange.onnx"
    strange.write_bytes(b.model(pooled_head(b, x), classes=5).SerializeToString())
    with pytest.raises(UnsupportedModelError, match="no torch twin") as refused:
        hwprune.compile(asked(model=str(strange)))
    assert "joint" in refused.value.hint
    able = replace(NullBackend().capabilities(), per_channel=False)
    monkeypatch.setattr(NullBackend, "capabilities", lambda _: able)
    with pytest.raises(UsageError, match="one scale for a whole weight"):
        hwprune.compile(asked())
    assert not (tmp_path / "out").exists()
