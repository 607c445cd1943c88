"""Verbs that answer: figures on stdout, everything said on the way on stderr."""

import json
from collections.abc import Callable
from pathlib import Path

from click.testing import Result

from hwprune.report import Report

Run = Callable[..., Result]


def compiled(hwprune: Run, model: Path, *more: str) -> tuple[Report, str]:
    """Compiles on the null target; the report from stdout, and stderr."""
    ask = ("--target", "null", "--budget", "0.9x", "--out", "out", "--evaluations", "3", "--json")
    result = hwprune("compile", model, *ask, *more)
    report = Report.from_json(result.stdout)
    assert result.exit_code == report.exit_code, result.output
    return report, result.stderr


def test_compile_prints_json_on_stdout_and_the_table_on_stderr(
    hwprune: Run, classifier: Path
) -> None:
    report, said = compiled(hwprune, classifier, "-v")
    assert report.verdict == "met"
    assert report.model.inputs == {"x": (1, 3, 8, 8)}
    for words in ("latency p50", "budget", "met: ", "out/model.onnx", "conv1", "profile"):
        assert words in said
    assert Report.from_json(Path("out/report.json").read_text()) == report
    assert Path("out", report.artifacts["onnx"]).is_file()


def test_quality_without_data_is_said_to_be_unknown(hwprune: Run, classifier: Path) -> None:
    report, said = compiled(hwprune, classifier)
    assert report.quality.compiled is None
    assert "quality is not known" in said


def test_report_and_verify_read_what_compile_wrote(hwprune: Run, classifier: Path) -> None:
    report, _ = compiled(hwprune, classifier)
    assert Report.from_json(hwprune("report", "out", "--json").stdout) == report
    assert "latency p50" in hwprune("report", "out").stdout
    again = hwprune("verify", "out", "--json")
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout)["verdict"] == "met"


def test_explain_says_which_kernels_run(hwprune: Run, classifier: Path) -> None:
    compiled(hwprune, classifier)
    text = hwprune("explain", "out").stdout
    assert "rewritten" in text
    assert all(f"- {name} (" in text for name in ("conv1", "conv2", "fc"))


def test_inspect_shows_groups_and_why_some_are_frozen(hwprune: Run, classifier: Path) -> None:
    text = hwprune("inspect", classifier).stdout
    assert "16 channels" in text
    assert "frozen" in text
    document = json.loads(hwprune("inspect", classifier, "--json").stdout)
    widths = {g["width"]: g["frozen"] for g in document["groups"]}
    assert widths[16] is None
    assert widths[4]
    assert document["macs"] == 8 * 8 * 9 * 16 * (3 + 16) + 4 * 16


def test_targets_lists_ours(hwprune: Run) -> None:
    found = json.loads(hwprune("targets", "--json").stdout)
    assert {"cpu", "null"} <= set(found)
    assert found["null"]["usable"]
    assert "null" in hwprune("targets").stdout


def test_a_target_says_what_its_kernels_can_do(hwprune: Run) -> None:
    text = hwprune("targets", "null").stdout
    assert any(line.split()[:2] == ["Conv", "int8"] for line in text.splitlines())
    assert "fewer bits are storage alone" in text
    table = json.loads(hwprune("targets", "null", "--json").stdout)["operators"]
    assert "int8" in table["Conv"]["kernels"]


def test_methods_lists_every_name_an_option_takes(hwprune: Run) -> None:
    text = hwprune("methods").stdout
    for name in ("--search", "knapsack", "--criterion", "obs", "--effort", "thorough"):
        assert name in text
    assert "uniform" in json.loads(hwprune("methods", "--json").stdout)["search"]
