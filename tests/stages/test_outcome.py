"""Budgets that are no task, cannot be reached, or come with other bounds."""

import io

import onnx
import pytest

import hwprune
from hwprune.report import Report, print_report
from hwprune.stages import outcome
from hwprune.testing.networks import Builder

FILES = ("model.onnx", "report.json", "report.html", "plan.json", "model.safetensors")


def said(report: Report, out) -> str:
    stream = io.StringIO()
    print_report(report, out, stream)
    return stream.getvalue()


def test_a_budget_that_is_met_already_prunes_nothing_but_offers_int8(ask, tmp_path):
    report = hwprune.compile(ask(tmp_path / "out", "1.5x"))
    assert (report.verdict, report.exit_code) == ("met", 0)
    assert any("already meets" in text for text in report.warnings)
    assert report.params.compiled == report.params.original
    assert all(layer.kept == layer.channels for layer in report.layers)
    assert any(layer.kernel == "int8" for layer in report.layers)
    assert report.latency_ms.compiled.p50 < 0.9 * report.latency_ms.original.p50
    assert "already meets" in said(report, tmp_path / "out")


def test_a_budget_out_of_reach_ends_in_the_fastest_network_and_says_so(ask, tmp_path):
    out = tmp_path / "out"
    report = hwprune.compile(ask(out, "0.01x"))
    assert (report.verdict, report.exit_code) == ("infeasible", 4)
    assert report.latency_ms.reachable == pytest.approx(report.latency_ms.compiled.p50, rel=0.02)
    text = said(report, out)
    assert "infeasible" in text
    assert "the least reachable latency is" in text
    slowest = report.dominating(2)
    assert slowest[0].predicted_us >= slowest[1].predicted_us > 0
    assert all(layer.name in text for layer in slowest)
    assert all((out / name).is_file() for name in FILES)
    assert Report.from_json((out / "report.json").read_text()) == report


def test_just_above_the_least_reachable_is_met(ask, tmp_path):
    least = hwprune.compile(ask(tmp_path / "least", "0.01x")).latency_ms.reachable
    report = hwprune.compile(ask(tmp_path / "out", f"{least * 1030:.3f}us"))
    assert report.verdict == "met"


@pytest.mark.parametrize(
    "bound", [{"max_size": 1000}, {"max_drop": 0.0}], ids=lambda b: next(iter(b))
)
def test_another_bound_that_is_broken_makes_it_missed(ask, tmp_path, bound):
    report = hwprune.compile(ask(tmp_path / "out", "0.06x", search="knapsack", **bound))
    assert (report.verdict, report.exit_code) == ("missed", 4)
    (option,) = bound
    name = f"--{option.replace('_', '-')}"
    assert any(name in text for text in report.warnings)
    assert "another bound is broken" in said(report, None)


def test_bounds_that_hold(ask, tmp_path):
    report = hwprune.compile(
        ask(tmp_path / "out", "0.5x", search="knapsack", max_size=10**6, max_drop=100.0)
    )
    assert report.verdict == "met"
    assert (report.budget.max_bytes, report.budget.max_drop) == (10**6, 100.0)


@pytest.fixture
def rigid(tmp_path):
    """One convolution whose channels are the network's output: nothing can be pruned."""
    b = Builder(0, (16, 12, 12))
    y = b.conv("x", 32)
    model = b.model(y, classes=32)
    size = ["N", 32, 12, 12]
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, size))
    path = tmp_path / "rigid.onnx"
    path.write_bytes(model.SerializeToString())
    return {"model": str(path), "data": None, "shapes": {"x": (1, 16, 12, 12)}}


@pytest.mark.parametrize(("budget", "verdict"), [("0.8x", "met"), ("0.1x", "infeasible")])
def test_a_network_in_which_nothing_can_be_pruned(ask, tmp_path, rigid, budget, verdict):
    report = hwprune.compile(ask(tmp_path / "out", budget, **rigid))
    assert report.verdict == verdict
    assert any("nothing in this network can be pruned" in text for text in report.warnings)
    assert report.frozen
    assert report.frozen[0].why
    assert [layer.kernel for layer in report.layers] == ["int8"]


def test_bounds_that_exclude_one_another_are_answered_by_the_nearest(ask, tmp_path):
    """The time is kept, the file as small as can be, and how small that is holds when asked for."""
    asked = {"search": "knapsack"}
    report = hwprune.compile(ask(tmp_path / "out", "0.3x", max_size=1000, **asked))
    assert report.verdict == "missed"
    assert report.latency_ms.ratio <= 0.3
    wider = {a.bound: a.value for a in report.nearest}["max_size"]
    assert 1000 < report.size_bytes.compiled <= 1.02 * wider
    assert "--max-size" in said(report, None)
    again = hwprune.compile(ask(tmp_path / "wider", "0.3x", max_size=int(1.02 * wider), **asked))
    assert again.verdict == "met"


def test_the_time_that_keeps_the_quality_is_told_and_holds(ask, tmp_path):
    tight = hwprune.compile(ask(tmp_path / "out", "0.06x", search="knapsack", max_drop=0.0))
    assert tight.verdict == "missed"
    [found] = tight.nearest
    assert found.bound == "budget"
    assert found.value > tight.budget.latency_ms
    report = hwprune.compile(
        ask(tmp_path / "more", f"{found.value}ms", search="knapsack", max_drop=0.0)
    )
    assert report.quality.kl < tight.quality.kl


def test_what_nobody_needs_is_not_done_where_it_loses_too_much(ask, tmp_path, monkeypatch):
    """Fast enough as it came: integers are offered only if --max-drop holds with them, too."""
    asked: list[float] = []

    def lost(*_):
        asked.append(9.0)
        return 9.0

    monkeypatch.setattr(outcome, "lost_untrained", lost)
    report = hwprune.compile(ask(tmp_path / "out", "1.5x", max_drop=5.0))
    assert asked == [9.0]
    assert report.verdict == "met"
    assert {layer.kernel for layer in report.layers} == {"fp32"}
