"""The whole of `compile` on the null target, whose clock is exact."""

import json
import math
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch

import hwprune
from hwprune import compiler
from hwprune.graph.coupling import couple
from hwprune.graph.read import read_graph
from hwprune.graph.slim import slim
from hwprune.stages import searching
from hwprune.stages.fitting import AIM
from hwprune.store.paths import table_path
from hwprune.verify.parity import Parity

# design.md 5.3; fields may be added, none renamed
FIELDS = {
    "": "schema verdict model target budget latency_ms quality size_bytes macs params layers frozen"
    " rewrites search stages warnings versions artifacts",
    "model": "name source inputs",
    "target": "name device runtime threads batch",
    "budget": "latency_ms percentile max_drop max_bytes",
    "latency_ms": "original compiled predicted",
    "quality": "metric original compiled samples split",
    "size_bytes": "original compiled",
    "macs": "original compiled",
    "params": "original compiled",
    "search": "strategy evaluations best_so_far",
}
ITEMS = {
    "layers": "name op channels kept kernel weight_bits act_bits predicted_us",
    "frozen": "name why",
    "stages": "name seconds resumed",
}


@pytest.fixture(scope="module")
def finished(ask, tmp_path_factory):
    """A compile to a fifth of the time: its report and its folder."""
    out = tmp_path_factory.mktemp("finished") / "out"
    return hwprune.compile(ask(out, "0.2x")), out


def test_report_has_the_fields_of_its_schema(finished):
    document = json.loads((finished[1] / "report.json").read_text())
    for section, names in FIELDS.items():
        found = document[section] if section else document
        assert set(names.split()) <= set(found), section
    for section, names in ITEMS.items():
        assert document[section], section
        assert all(set(names.split()) <= set(item) for item in document[section])
    assert document["schema"] == 1
    assert document["model"]["inputs"] == {"x": [1, 3, 12, 12]}
    assert document["versions"].keys() >= {"torch", "onnxruntime", "hwprune"}
    assert {"p50", "p90"} <= document["latency_ms"]["original"].keys()


def test_the_budget_is_met_and_used(finished):
    report, _ = finished
    assert report.verdict == "met"
    assert report.exit_code == 0
    used = report.latency_ms.compiled.p50 / report.budget.latency_ms
    assert 0.9 <= used <= 1.0
    assert report.budget.latency_ms == pytest.approx(0.2 * report.latency_ms.original.p50)


def test_the_prediction_holds_where_the_clock_is_exact(finished):
    latency = finished[0].latency_ms
    assert latency.predicted == pytest.approx(latency.compiled.p50, rel=0.02)
    layers = sum(layer.predicted_us for layer in finished[0].layers) / 1e3
    assert 0.5 * latency.predicted < layers <= latency.predicted


def test_cuts_say_what_they_bought(finished):
    report, _ = finished
    assert report.cuts
    for cut in report.cuts:
        assert cut.kept < cut.step <= cut.width
        assert cut.whole_us >= cut.step_us - 1e-6
        assert cut.whole_loss >= cut.step_loss >= 0
    bought = sum(cut.whole_us for cut in report.cuts)
    latency = report.latency_ms
    assert 0 < bought < 1e3 * latency.original.p50


def test_figures_are_those_of_the_files(finished):
    report, out = finished
    assert report.size_bytes.compiled == (out / "model.onnx").stat().st_size
    assert report.macs.compiled < report.macs.original
    assert report.params.compiled < report.params.original
    assert all((out / name).is_file() for name in report.artifacts.values())
    assert (out / "report.html").is_file()
    assert report.search.evaluations == len(report.search.best_so_far) >= 1
    assert list(report.search.best_so_far) == sorted(report.search.best_so_far, reverse=True)


def test_the_plan_carried_out_is_the_network_that_is_loaded(finished, network):
    _, out = finished
    text = (out / "plan.json").read_text()
    plan = hwprune.Plan.from_json(text)
    assert plan.to_json() == text
    assert plan.keep or plan.dropped
    graph = read_graph(network, {"x": (1, 3, 12, 12)})
    planned = slim(graph, couple(graph), plan.keep, plan.dropped)
    shapes = [tuple(p.shape) for p in hwprune.load(out).parameters()]
    wanted = [t.values.shape for n in planned.nodes for t in n.inputs[1:] if hasattr(t, "values")]
    assert sorted(shapes) == sorted(wanted)


@pytest.mark.ort
def test_the_loaded_module_is_the_slim_network(finished):
    _, out = finished
    x = np.random.default_rng(1).standard_normal((1, 3, 12, 12)).astype(np.float32)
    with torch.no_grad():
        found = hwprune.load(out)(torch.from_numpy(x)).numpy()
    slim_network = ort.InferenceSession(out / "network.onnx").run(None, {"x": x})[0]
    np.testing.assert_allclose(found, slim_network, rtol=1e-4, atol=1e-5)
    deployed = ort.InferenceSession(out / "model.onnx").run(None, {"x": x})[0]
    assert np.abs(found - deployed).max() < 0.1 * np.abs(found).max()


def test_a_finished_artefact_is_verified_again(finished):
    report, out = finished
    result = compiler.verify(out)
    assert (result.verdict, result.exit_code) == ("met", 0)
    assert result.latency_ms.compiled.p50 == pytest.approx(report.latency_ms.compiled.p50)
    assert result.sqnr_db["y"] > 15


def test_parity_without_any_difference_can_be_printed(finished, monkeypatch):
    exact = Parity(0.0, 0.0, {"y": math.inf}, ())
    monkeypatch.setattr(compiler, "parity", lambda *_: exact)
    document = json.loads(compiler.verify(finished[1]).to_json())
    assert document["sqnr_db"] == {"y": 200.0}


def test_inspect_finds_what_is_pruned(finished, network):
    seen = hwprune.inspect(str(network), shapes={"x": (1, 3, 12, 12)})
    assert seen.macs == finished[0].macs.original
    assert [b.name for b in seen.branches]
    assert {g.name for g in seen.groups if g.frozen} == {f.name for f in finished[0].frozen}


def test_every_candidate_meets_the_planning_budget(ask, tmp_path, monkeypatch):
    budgets, results = [], []

    def spy(problem, budget_ns, *more, **named):
        budgets.append(budget_ns)
        results.append(search(problem, budget_ns, *more, **named))
        assert all(problem.latency_ns(e.assignment) <= budget_ns for e in results[-1].evaluated)
        return results[-1]

    search = searching.search
    monkeypatch.setattr(searching, "search", spy)
    report = hwprune.compile(ask(tmp_path / "out", "0.3x"))
    limit = report.budget.latency_ms * 1e6
    assert budgets == pytest.approx([AIM * limit] * len(budgets), rel=1e-6)
    assert all(e.latency_ns <= AIM * limit for r in results for e in r.evaluated)
    assert len(results[0].evaluated) > 1


def test_an_absolute_budget(ask, finished, tmp_path):
    limit_us = 250 * finished[0].latency_ms.original.p50
    report = hwprune.compile(ask(tmp_path / "out", f"{limit_us:.0f}us"))
    assert report.verdict == "met"
    assert report.budget.latency_ms == pytest.approx(limit_us / 1e3, abs=1e-3)
    assert 0.9 <= report.latency_ms.compiled.p50 / report.budget.latency_ms <= 1.0


def test_the_search_is_no_worse_than_the_baselines(ask, tmp_path):
    least = {}
    for strategy in ("bo", "knapsack", "uniform", "netadapt"):
        report = hwprune.compile(ask(tmp_path / strategy, "0.25x", search=strategy))
        assert report.verdict == "met"
        assert report.search.strategy == strategy
        least[strategy] = min(report.search.best_so_far)
    assert least["bo"] <= least["knapsack"]
    assert least["bo"] < least["uniform"]


def test_the_table_is_filled_once(ask, finished, tmp_path, monkeypatch):
    from hwprune.backends.null import NullBackend

    asked = []

    def remember(self, kernels, *request):
        asked.append(len(kernels))
        return measured(self, kernels, *request)

    assert table_path().is_file()
    measured = NullBackend.time_kernels
    monkeypatch.setattr(NullBackend, "time_kernels", remember)
    assert hwprune.compile(ask(tmp_path / "out", "0.3x", search="knapsack")).verdict == "met"
    assert asked == [3]  # a look whether the machine is still the same


def test_the_network_that_is_compiled_stays_as_it_was(ask, network, tmp_path):
    before = network.read_bytes()
    hwprune.compile(ask(tmp_path / "out", "0.9x", search="knapsack"))
    assert Path(network).read_bytes() == before
