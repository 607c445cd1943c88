"""A finished file that turns out over the budget is not the end."""

import pytest
from hwprune.backends.null import NullBackend

import hwprune
from hwprune.backend import Samples
from hwprune.stages.outcome import Outcome


@pytest.fixture
def slower_at_last(monkeypatch):
    """`slower_at_last(*factors)`: finished files take that much longer than their candidates.

    Returns the list of what has been applied so far; the last factor stays.
    """

    def install(*factors: float) -> list[float]:
        real, applied = NullBackend.time_models, []

        def time_models(self, models, threads, seconds, processes, patience=1.0):
            found = real(self, models, threads, seconds, processes)
            if models[-1].name != "model.onnx":
                return found
            applied.append(factors[min(len(applied), len(factors) - 1)])
            slow = [[round(t * applied[-1]) for t in runs] for runs in found[-1].runs_ns]
            return [*found[:-1], Samples(tuple(map(tuple, slow)), found[-1].cpu_share)]

        monkeypatch.setattr(NullBackend, "time_models", time_models)
        return applied

    return install


def test_it_is_searched_again_until_the_file_itself_fits(ask, tmp_path, slower_at_last):
    applied = slower_at_last(1.1)
    report = hwprune.compile(ask(tmp_path / "out", "0.3x", search="knapsack"))
    assert report.verdict == "met"
    assert 0.85 <= report.latency_ms.compiled.p50 / report.budget.latency_ms <= 1
    assert len(applied) == 3  # the first file was looked at twice


def test_a_miss_that_a_longer_look_does_not_confirm_is_none(ask, tmp_path, slower_at_last):
    applied = slower_at_last(1.1, 1.0)
    report = hwprune.compile(ask(tmp_path / "out", "0.3x", search="knapsack"))
    assert report.verdict == "met"
    assert applied == [1.1, 1.0]


def test_before_training_the_untrained_network_must_fit(ask, tmp_path, monkeypatch):
    """Candidates turn out slower once they are chosen: searched again, but trained only once."""
    real, order = NullBackend.time_models, []

    def time_models(self, models, threads, seconds, processes, patience=1.0):
        found = real(self, models, threads, seconds, processes)
        order.append(models[-1].name)
        if order.count("candidate.onnx") != 3:  # the look before the search, the round, this one
            return found
        slow = [[round(t * 1.1) for t in runs] for runs in found[-1].runs_ns]
        return [*found[:-1], Samples(tuple(map(tuple, slow)), found[-1].cpu_share)]

    monkeypatch.setattr(NullBackend, "time_models", time_models)
    options = ask(tmp_path / "out", "0.3x", search="knapsack", epochs=1)
    report = hwprune.compile(options)
    assert report.verdict == "met"
    assert order.count("model.onnx") == 1
    assert order.count("candidate.onnx") >= 4


def test_the_repeats_are_bounded_and_the_verdict_is_honest(ask, tmp_path, slower_at_last):
    applied = slower_at_last(1.1, 1.1, 1.4, 1.4, 2.0, 2.0)
    report = hwprune.compile(ask(tmp_path / "out", "0.3x", search="knapsack"))
    assert (report.verdict, report.exit_code) == ("missed", 4)
    assert applied == [1.1, 1.1, 1.4, 1.4, 2.0, 2.0]


@pytest.mark.parametrize(("lossless", "verdict"), [(True, "met"), (False, "noisy")])
def test_doubt_is_reason_enough_where_more_room_costs_nothing(
    ask, tmp_path, monkeypatch, lossless, verdict
):
    """The processes disagree about the first file, by a tenth around a little over the budget."""
    real, finished = NullBackend.time_models, []

    def time_models(self, models, threads, seconds, processes, patience=1.0):
        found = real(self, models, threads, seconds, processes)
        if models[-1].name == "model.onnx":
            finished.append(models[-1].read_bytes())
        if len(set(finished)) != 1:
            return found
        factors = [1.0, 1.08, 1.16] * (processes // 3)
        uneven = [
            tuple(round(t * f) for t in runs)
            for f, runs in zip(factors, found[-1].runs_ns, strict=True)
        ]
        return [*found[:-1], Samples(tuple(uneven), found[-1].cpu_share)]

    monkeypatch.setattr(NullBackend, "time_models", time_models)
    monkeypatch.setattr(Outcome, "lossless", lossless)
    report = hwprune.compile(ask(tmp_path / "out", "0.3x", search="knapsack"))
    assert report.verdict == verdict
    assert len(set(finished)) == (2 if lossless else 1)


@pytest.mark.parametrize("budget", ["0.01x", "1.5x"])
def test_what_was_not_searched_for_is_not_repeated(ask, tmp_path, slower_at_last, budget):
    applied = slower_at_last(10.0)
    report = hwprune.compile(ask(tmp_path / "out", budget))
    assert report.exit_code == 4
    assert len(applied) == 2


def test_a_finalist_that_is_slower_than_the_table_says_gives_way(ask, tmp_path, monkeypatch):
    """The table is too hopeful about the candidate it likes best; the next one is timed."""
    real, timed = NullBackend.time_models, []

    def time_models(self, models, threads, seconds, processes, patience=1.0):
        found = real(self, models, threads, seconds, processes)
        if models[-1].name != "candidate.onnx":
            return found
        timed.append(models[-1].read_bytes())
        if len(timed) != 2:  # the first is the look before the search
            return found
        slow = [[round(t * 1.2) for t in runs] for runs in found[-1].runs_ns]
        return [*found[:-1], Samples(tuple(map(tuple, slow)), found[-1].cpu_share)]

    monkeypatch.setattr(NullBackend, "time_models", time_models)
    report = hwprune.compile(ask(tmp_path / "out", "0.2x", evaluations=6))
    assert report.verdict == "met"
    assert len(timed) >= 3
    assert timed[1] != timed[2]
