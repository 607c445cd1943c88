"""One run for several targets: an artefact each, and nothing worked out twice."""

import json
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from click.testing import CliRunner

import hwprune
from hwprune import registry
from hwprune.cli.app import app
from hwprune.errors import UsageError
from hwprune.stages import candidates

Options = Callable[..., hwprune.CompileOptions]


@pytest.fixture(autouse=True)
def twin_target(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second target that is the null target under another name."""
    known = registry._backend_entries()
    value = known["null"].value
    both = {**known, "twin": EntryPoint("twin", value, "hwprune.backends")}
    monkeypatch.setattr(registry, "_backend_entries", lambda: both)


def test_each_has_an_artefact_and_the_second_repairs_nothing_again(
    ask: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repairs: list[object] = []
    repaired = candidates.repaired

    def counted(*given: object) -> object:
        repairs.append(given)
        return repaired(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(candidates, "repaired", counted)
    asked = ask(tmp_path / "out", "0.08x")
    alone = hwprune.compile(replace(asked, out=tmp_path / "alone"))
    once = len(repairs)
    assert once > 2
    reports = hwprune.compile_for(["null", "twin"], asked)
    assert len(repairs) == 2 * once
    assert list(reports) == ["null", "twin"]
    for folder, report in reports.items():
        assert report.verdict == "met"
        assert report.search == alone.search
        assert hwprune.load(asked.out / folder) is not None
        plan = (asked.out / folder / "plan.json").read_bytes()
        assert plan == (tmp_path / "alone" / "plan.json").read_bytes()


def test_a_run_that_is_repeated_is_taken_as_it_was(ask: Options, tmp_path: Path) -> None:
    asked = ask(tmp_path / "out", "0.4x", search="knapsack")
    assert hwprune.compile_for(["null", "twin"], asked) == hwprune.compile_for(
        ["null", "twin"], asked
    )


def test_targets_are_named_once_and_without_a_front(ask: Options, tmp_path: Path) -> None:
    asked = ask(tmp_path / "out", "0.4x")
    with pytest.raises(UsageError, match="not distinct"):
        hwprune.compile_for(["null", "null"], asked)
    with pytest.raises(UsageError, match="one target"):
        hwprune.compile_for(["null", "twin"], replace(asked, pareto=2))


def test_on_the_command_line(ask: Options, tmp_path: Path) -> None:
    asked, out = ask(tmp_path, "0.4x"), tmp_path / "cli"
    words = ["compile", str(asked.model), "--data", str(asked.data), "--budget", "0.4x",
             "--search", "knapsack", "--out", str(out), "--json",
             "--target", "null", "--target", "twin"]  # fmt: skip
    result = CliRunner().invoke(app, words, standalone_mode=False)
    documents = json.loads(result.stdout)
    assert {folder: d["verdict"] for folder, d in documents.items()} == {
        "null": "met",
        "twin": "met",
    }
    assert (out / "twin" / "model.onnx").is_file()
