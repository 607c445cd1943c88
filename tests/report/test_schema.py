"""`report.json`: the contract other programs read."""

import dataclasses
import json
import math

import pytest

from hwprune.errors import StoreError
from hwprune.report import Latency, Percentiles, Quality, Report

# Fields may be added, never renamed: this is schema 1.
SCHEMA_1 = {
    "schema": None,
    "verdict": None,
    "model": {"name", "source", "inputs"},
    "target": {"name", "device", "runtime", "threads", "batch"},
    "budget": {"latency_ms", "percentile", "max_drop", "max_bytes"},
    "latency_ms": {"original", "compiled", "predicted"},
    "quality": {"metric", "original", "compiled", "samples", "split"},
    "size_bytes": {"original", "compiled"},
    "macs": {"original", "compiled"},
    "params": {"original", "compiled"},
    "layers": {
        "name",
        "op",
        "channels",
        "kept",
        "kernel",
        "weight_bits",
        "act_bits",
        "predicted_us",
    },
    "frozen": {"name", "why"},
    "search": {"strategy", "evaluations", "best_so_far"},
    "stages": {"name", "seconds", "resumed"},
    "warnings": None,
    "versions": None,
    "artifacts": {"onnx"},
}


def test_every_field_of_schema_1_is_there(report: Report) -> None:
    document = json.loads(report.to_json())
    assert document["schema"] == 1
    for name, fields in SCHEMA_1.items():
        value = document[name]
        entry = value[0] if isinstance(value, list) and fields else value
        assert fields is None or fields <= set(entry), name
    assert {"p50", "p90"} <= set(document["latency_ms"]["original"])
    assert document["model"]["inputs"] == {"x": [1, 3, 32, 32]}


def test_json_round_trip_is_the_identity(report: Report) -> None:
    assert Report.from_json(report.to_json()) == report
    assert Report.from_json(report.to_json()).to_json() == report.to_json()


def test_what_is_unknown_is_null(report: Report) -> None:
    unknown = dataclasses.replace(
        report,
        latency_ms=Latency(None, None, None),
        quality=Quality("agreement", None, None, 0, "none"),
    )
    assert Report.from_json(unknown.to_json()) == unknown
    assert unknown.measured_ms() is None


def test_fields_of_later_versions_are_ignored(report: Report) -> None:
    document = json.loads(report.to_json()) | {"energy_mj": 3}
    document["quality"]["top5"] = 0.99
    assert Report.from_json(json.dumps(document)) == report


def test_not_a_number_is_never_written(report: Report) -> None:
    broken = dataclasses.replace(report, latency_ms=Latency(None, None, math.nan))
    with pytest.raises(ValueError, match="not JSON compliant"):
        broken.to_json()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": 2}, "schema 2"),
        ({"verdict": "maybe"}, "report.verdict"),
        ({"layers": 3}, "report.layers"),
        ({"macs": {"original": 1}}, "report.macs is incomplete"),
        ({"macs": {"original": "many", "compiled": 1}}, "report.macs.original"),
        ({"model": None}, "report.model"),
    ],
)
def test_what_is_not_a_report_is_refused(
    report: Report, change: dict[str, object], said: str
) -> None:
    document = json.loads(report.to_json()) | change
    with pytest.raises(StoreError, match=said):
        Report.from_json(json.dumps(document))


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", "[" * 100_000, '{"schema": 1}'])
def test_what_is_not_even_close_is_refused(text: str) -> None:
    with pytest.raises(StoreError):
        Report.from_json(text)


@pytest.mark.parametrize(
    ("verdict", "status"), [("met", 0), ("missed", 4), ("infeasible", 4), ("noisy", 6)]
)
def test_the_verdict_is_the_exit_status(report: Report, verdict: str, status: int) -> None:
    changed = json.loads(report.to_json()) | {"verdict": verdict}
    assert Report.from_json(json.dumps(changed)).exit_code == status


def test_the_measured_latency_is_at_the_percentile_of_the_budget(report: Report) -> None:
    at = {p: dataclasses.replace(report.budget, percentile=p) for p in ("p50", "p90", "p99")}
    timed = Latency(None, Percentiles(9.0, 11.0, 12.0), None)
    found = [dataclasses.replace(report, budget=b, latency_ms=timed) for b in at.values()]
    assert [r.measured_ms() for r in found] == [9.0, 11.0, 12.0]


def test_the_dominating_layers_come_slowest_first(report: Report) -> None:
    assert [layer.name for layer in report.dominating(2)] == ["<fc>", "conv1"]
