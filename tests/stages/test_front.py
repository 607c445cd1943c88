"""Fronts, and budgets that nobody gave, on the null target, whose clock is exact."""

import json
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import numpy as np
import pytest

import hwprune
from hwprune import compiler
from hwprune.errors import UsageError
from hwprune.progress import Silent
from hwprune.stages import front as front_stage
from hwprune.stages.front import fastest_keeping, front_ratios
from hwprune.stages.options import CompileOptions
from hwprune.units import Budget


@pytest.fixture(scope="module")
def front(ask, tmp_path_factory):
    out = tmp_path_factory.mktemp("front") / "out"
    options = replace(ask(out, "1x"), budget=None, pareto=2)
    return compiler.pareto(options), options


def test_a_front_is_networks_that_meet_ever_tighter_budgets(front):
    found, options = front
    assert len(found.points) == 2
    assert [p.verdict for p in found.points] == ["met"] * 2
    assert found.exit_code == 0
    ratios = [p.ratio for p in found.points]
    assert ratios == sorted(ratios, reverse=True)
    assert all(p.ratio <= p.budget_ratio for p in found.points)
    assert len(set(ratios)) == 2
    document = json.loads((options.out / "front.json").read_text())
    assert [p["folder"] for p in document["points"]] == [p.folder for p in found.points]
    assert "<svg" in (options.out / "front.html").read_text()


def test_every_point_is_an_artefact_that_can_be_verified_and_loaded(front):
    found, options = front
    tightest = options.out / found.points[-1].folder
    result = compiler.verify(tightest)
    assert result.verdict == "met"
    assert hwprune.load(tightest) is not None
    size = (tightest / "model.onnx").stat().st_size
    assert size == found.points[-1].size_bytes < found.original.size_bytes


def test_points_share_what_was_measured(front):
    _, options = front
    kept = {p.stem for p in (options.out / "run").glob("*.json")}
    assert "sensitivity" in kept
    assert sum(name.startswith("report-") for name in kept) == 2


def test_a_front_that_was_killed_resumes_and_repeats_nothing(front, monkeypatch):
    found, options = front

    def never(*_):
        raise AssertionError("a finished point was made again")

    monkeypatch.setattr(compiler, "_settled", never)
    assert compiler.pareto(options) == found


def test_a_front_stays_within_the_budget_that_was_given(monkeypatch):
    monkeypatch.setattr(front_stage, "reach", lambda _: (0.05, 0.8))
    original = SimpleNamespace(quiet=1000.0)
    options = CompileOptions(pareto=3)
    run = SimpleNamespace(
        job=SimpleNamespace(options=options),
        limit_ns=200.0,
        profile=SimpleNamespace(original=original),
    )
    assert front_ratios(run, 3) == [0.8, 0.2, 0.05]
    run.job.options = replace(options, budget=Budget(ratio=0.2))
    assert front_ratios(run, 3) == [0.2, 0.1, 0.05]


def test_the_fastest_that_keeps_the_quality_is_found(ask, tmp_path, monkeypatch):
    monkeypatch.setattr(front_stage, "_STEPS", 2)
    images = tmp_path / "many.npz"
    np.savez(images, x=np.random.default_rng(1).standard_normal((800, 3, 12, 12), np.float32))
    asked = ask(tmp_path / "out", "1x", data=str(images), evaluations=2)
    report = hwprune.compile(replace(asked, budget=None, max_drop=30.0))
    assert report.verdict == "met"
    assert 100 * (report.quality.original - report.quality.compiled) <= 30
    assert report.latency_ms.ratio <= report.budget.ratio < 0.6


@pytest.mark.parametrize("truth", [0.12, 0.3, 0.8, 1.0])
def test_the_least_budget_is_closed_in_on(truth, monkeypatch):
    monkeypatch.setattr(front_stage, "reach", lambda _: (0.1, 0.5))
    monkeypatch.setattr(front_stage, "classes", lambda _: 5)
    asked: list[float] = []

    def settle(run):
        asked.append(run.budget.ratio)

    monkeypatch.setattr(front_stage, "lost_points", lambda *_: 0.0 if asked[-1] >= truth else 9.0)
    options = CompileOptions(max_drop=1.0)
    job = SimpleNamespace(options=options, known=True, graph=None)
    point = fastest_keeping(FakeRun(job), settle)
    assert point.drop == 0.0
    assert truth <= point.run.budget.ratio <= min(1.0, 1.16 * truth)
    assert asked[0] == 0.5  # what kernels alone reach


@dataclass(frozen=True)
class FakeRun:
    job: object
    work: None = None
    progress: object = field(default_factory=Silent)

    @property
    def budget(self):
        return self.job.options.budget

    def under(self, budget):
        options = replace(self.job.options, budget=budget)
        return FakeRun(SimpleNamespace(options=options, known=True, graph=None))


def test_without_time_or_drop_the_size_alone_is_met(ask, tmp_path):
    options = replace(ask(tmp_path / "out", "1x"), budget=None, max_size=60_000)
    report = hwprune.compile(options)
    assert report.verdict == "met"
    assert report.size_bytes.compiled <= 60_000 < report.size_bytes.original
    assert report.latency_ms.ratio <= 1.0


def test_asking_for_nothing_and_for_what_cannot_be_told_is_refused(ask, tmp_path):
    with pytest.raises(UsageError, match="nothing is asked for"):
        hwprune.compile(replace(ask(tmp_path / "a", "1x"), budget=None))
    blind = replace(ask(tmp_path / "b", "1x"), budget=None, max_drop=1.0, data=None)
    with pytest.raises(UsageError, match="quality cannot be told"):
        hwprune.compile(blind)
