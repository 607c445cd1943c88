"""Everything about one target, as facts and as lines."""

from dataclasses import replace
from pathlib import Path

import pytest
from hwprune.backends.null import NullBackend

from hwprune.backend import Samples
from hwprune.doctor import Need, TargetState
from hwprune.doctor.advice import Advice
from hwprune.doctor.checkup import Checkup, examine
from hwprune.doctor.text import advice_lines, installation_lines, target_lines
from hwprune.errors import BackendError, UsageError
from hwprune.latency.table import LatencyTable
from hwprune.store.paths import table_path
from hwprune.testing.kernels import conv


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("HWPRUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_target_is_asked_about_itself(cache: Path) -> None:
    found = examine("null", noise=True)
    assert (found.target, found.threads, found.weight_bits) == ("null", 1, 8)
    assert found.identity == NullBackend().identity()
    assert found.noise is not None
    assert found.noise.level == "steady"
    assert found.table.path == str(cache / "latency.db")
    assert not Path(found.table.path).exists()


def test_quick_measures_nothing(cache: Path) -> None:
    assert examine("null", noise=False).noise is None


def test_rows_of_this_target_are_counted(cache: Path) -> None:
    cache.mkdir()
    with LatencyTable(table_path(), NullBackend().identity(), 1) as table:
        table.put(conv(), Samples(((1, 2, 3),), (1.0,)))
    with LatencyTable(table_path(), NullBackend().identity(), 2) as table:
        table.put(conv(), Samples(((1, 2, 3),), (1.0,)))
    assert examine("null", noise=False).table.rows == 1


def test_a_cache_that_cannot_be_made_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HWPRUNE_CACHE", str(tmp_path / "file"))
    assert "cannot be written" in examine("null", noise=False).table.problem


def test_targets_that_cannot_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="nul"):
        examine("nul", noise=False)
    monkeypatch.setattr(NullBackend, "missing", lambda _self: "no clock")
    with pytest.raises(BackendError, match="no clock"):
        examine("null", noise=False)


def test_facts_carry_their_units(server: Checkup) -> None:
    text = "\n".join(target_lines(server))
    for line in ("frequency    2600 MHz", "temperature  50 degrees C", "quota        none"):
        assert line in text
    assert "stolen       unknown\n" in text
    assert "p50, p90, p99        1.01, 1.02, 1.05 times p20" in text
    assert "rows  12" in text


def test_without_noise_and_conditions_there_are_no_such_sections(server: Checkup) -> None:
    text = "\n".join(target_lines(replace(server, noise=None, conditions={})))
    assert "Noise" not in text
    assert "Conditions" not in text


def test_what_is_unfit_stands_out() -> None:
    needs = [Need("numpy", "2.4", ">=1.26", True), Need("onnx", None, ">=1.21", False)]
    lines = list(installation_lines(needs, [TargetState("npu", False, "no driver")]))
    assert "  ok   numpy  2.4      needs >=1.26" in lines
    assert "  BAD  onnx   missing  needs >=1.21" in lines
    assert "  BAD  npu  no driver" in lines


def test_advice_is_wrapped_and_says_what_to_do() -> None:
    lines = list(advice_lines([Advice("note", "word " * 30, "do it"), Advice("good", "fine")]))
    assert lines[0] == "What this means"
    assert lines[1].startswith("  note: word")
    assert max(map(len, lines)) <= 100
    assert lines[-2:] == ["    -> do it", "  good: fine"]
