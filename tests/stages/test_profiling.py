"""What profiling leaves for later is measured when it is needed."""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hwprune.backends.null.backend import NullBackend
from hwprune.backends.null.rules import kernel_ns
from hwprune.models.densenet import densenet40

import hwprune
from hwprune.backend import Capabilities, Kernel, Timed
from hwprune.frontend.module import graph_from_module
from hwprune.graph.coupling import couple
from hwprune.latency.calibrate import Calibration
from hwprune.latency.estimator import Estimator
from hwprune.latency.space import build_space
from hwprune.latency.steps import Steps
from hwprune.latency.table import LatencyTable
from hwprune.plan import Configuration
from hwprune.registry import get_backend
from hwprune.stages.profiling import Profile, Rows, for_any_plan, priced
from hwprune.stages.subject import Subject
from hwprune.stages.timing import Timing
from hwprune.stages.trial_plans import drawn, scattered


class Blocked(NullBackend):
    """Kernels in the layouts of onnxruntime, timed by rule."""

    def capabilities(self) -> Capabilities:
        """Its."""
        return get_backend("cpu").capabilities()


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Profile:
    """Of a network whose tables take other layouts for granted than its plans have."""
    monkeypatch.setenv("HWPRUNE_CACHE", str(tmp_path))
    graph = graph_from_module(densenet40().eval(), (torch.zeros(1, 3, 32, 32),))
    backend = Blocked()
    able = backend.capabilities()
    subject = Subject(backend, able, 1, graph, graph, couple(graph))
    network = subject.network()
    space = build_space(network, 8, 16)
    with subject.table() as table:
        rows = Rows(table, backend, lambda *_: None)
        estimator = priced(Estimator(network, space), able.layouts, rows)
    timing = Timing(1.0, 1.0, 1.0, 1.0, 0.0, 1.0)
    return Profile(subject, estimator, space, Steps({}), Calibration(), timing, 0)


def plan_with_unknown_kernels(profile: Profile) -> Configuration:
    rng = random.Random(0)
    plans = (drawn(profile.space, rng) for _ in range(20))
    return next(c for c in plans if profile.estimator.unknown(c))


def test_kernels_that_no_table_holds_are_measured_when_a_plan_runs_them(profile: Profile) -> None:
    c, estimator = plan_with_unknown_kernels(profile), profile.estimator
    with pytest.raises(KeyError):
        estimator.latency_ns(c, Calibration())
    profile.learn(c)
    assert not estimator.unknown(c)
    by_rule = sum(kernel_ns(k) for k in estimator.kernels(c))
    assert estimator.latency_ns(c, Calibration()) == pytest.approx(by_rule, rel=0.05)


def test_rows_for_any_plan_price_plans_that_the_space_does_not_hold(profile: Profile) -> None:
    """Layouts included: what one rate of pruning makes narrow never lies on the steps."""
    network, measured = profile.estimator.network, Counter[bool]()
    estimator = for_any_plan(network, 8, seed=0)
    with profile.subject.table() as table:
        rows = Rows(table, Blocked(), lambda *_: None)
        priced(estimator, network.capabilities.layouts, rows, sweeping=True)
    rng = random.Random(1)
    for c in (scattered(network, rng) for _ in range(30)):
        measured += Counter(estimator.is_measured(k) for k in estimator.kernels(c))
        assert not estimator.unknown(c)
        by_rule = sum(kernel_ns(k) for k in estimator.kernels(c))
        assert estimator.latency_ns(c, Calibration()) == pytest.approx(by_rule, rel=0.03)
    assert measured[False] > measured[True]


class Busy(NullBackend):
    """Somebody takes most of its time while the first six processes measure."""

    processes = 0

    def time_kernels(
        self, kernels: Sequence[Kernel], threads: int, runs: int, seed: int
    ) -> Iterator[tuple[int, Timed]]:
        """As it should be, or 1.4 times that."""
        self.processes += 1
        busy = self.processes <= 6
        for index, timed in super().time_kernels(kernels, threads, runs, seed):
            slower = tuple(ns * 1.4 for ns in timed.runs_ns)
            yield index, Timed(slower, 0.4) if busy else timed


def test_rows_of_a_busy_minute_are_mended_later() -> None:
    backend, kernel = Busy(), Kernel("Relu", "fp32", ((1, 8, 4, 4),), (1, 8, 4, 4))
    with LatencyTable(None, backend.identity(), 1) as table:
        rows = Rows(table, backend, lambda *_: None)
        true = pytest.approx(kernel_ns(kernel), rel=0.01)
        assert rows.of([kernel])[kernel] == pytest.approx(1.4 * kernel_ns(kernel), rel=0.01)
        assert "1 of 1 rows are unsteady" in rows.notes[-1]
        assert rows.mended([kernel])[kernel] == true
        assert not rows.notes
        assert (rows.measured, backend.processes) == (1, 9)


class _Told:
    """Keeps what stages say."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.shares: list[float] = []

    @contextmanager
    def stage(self, name: str, total: float | None = None) -> Iterator["_Told"]:
        self.stages.append(name)
        yield self

    def update(self, done: float, text: str = "") -> None:
        self.shares.append(done)

    def note(self, text: str) -> None:
        pass


def test_a_predictor_tells_what_it_measures(network, tmp_path, monkeypatch):
    monkeypatch.setenv("HWPRUNE_CACHE", str(tmp_path))
    told = _Told()
    predictor = hwprune.predictor(str(network), "null", told)
    assert "profile" in told.stages
    assert max(told.shares) == pytest.approx(1)
    found = predictor.estimate(hwprune.Plan())
    assert 0 < found.low < found.us < found.high
