"""The short table people read."""

import dataclasses
import io
from pathlib import Path

import pytest

from hwprune.report import Bounds, Latency, Percentiles, Quality, Report, print_report
from hwprune.report.figures import verdict
from hwprune.report.text import align

EXPECTED = """\
             original     compiled
latency p50     35 ms       9.6 ms         0.27x
latency p90   41.5 ms      10.2 ms         0.25x
predicted                   9.3 ms          -3 %
budget                 10 ms (p50)
top1          99.17 %      98.89 %  -0.28 points
size           1.5 MB       312 kB         0.21x
MACs           1.24 G        310 M         0.25x
parameters      380 k         95 k         0.25x

met: 9.6 ms of 10 ms
top1 on 360 samples of the eval split, mean KL 0.012
rewritten: shortcuts 0.934x
groups kept at full width: 1 (report.json says why)
warning: no <governor> access
deploy with: intra_op_num_threads=1, enable_cpu_mem_arena=False
files: out/model.onnx, out/report.html
"""


def shown(report: Report, folder: Path | None = None, layers: bool = False) -> str:
    stream = io.StringIO()
    print_report(report, folder, stream, layers)
    return stream.getvalue()


def test_the_whole_of_it(report: Report) -> None:
    assert shown(report, Path("out")) == EXPECTED


def test_layers_say_what_became_of_them(report: Report) -> None:
    lines = [line.split() for line in shown(report, layers=True).splitlines()]
    assert ["conv1", "Conv", "64x64", "->", "48x40", "int8", "512", "us"] in lines
    assert ["conv2", "Conv", "64x64", "->", "dropped", "-", "0", "ns"] in lines
    assert ["<fc>", "Gemm", "64x10", "fp32", "3", "ms"] in lines


def test_infeasible_names_the_bound_and_the_slowest_layers(report: Report) -> None:
    text = shown(dataclasses.replace(report, verdict="infeasible"))
    assert "infeasible: 10 ms cannot be met; the least reachable latency is 4 ms" in text
    assert "most of it: <fc> 3 ms, conv1 512 us" in text


@pytest.mark.parametrize(
    ("verdict_name", "expected"),
    [
        ("missed", "missed: 9.6 ms of 10 ms, but another bound is broken"),
        ("noisy", "noisy: the times spread too widely to say whether 10 ms is met"),
    ],
)
def test_other_verdicts(report: Report, verdict_name: str, expected: str) -> None:
    assert verdict(dataclasses.replace(report, verdict=verdict_name)) == expected


def test_missed_for_time_says_nothing_else(report: Report) -> None:
    late = Latency(Percentiles(35.0, 41.5), Percentiles(10.7, 11.0), None)
    missed = dataclasses.replace(report, verdict="missed", latency_ms=late)
    assert verdict(missed) == "missed: 10.7 ms of 10 ms"


def test_a_budget_given_as_a_ratio_is_answered_as_one(report: Report) -> None:
    """The ratio is that of paired runs: it may meet what the two medians, apart, do not."""
    bounds = Bounds(10.0, "p50", ratio=0.25)
    found = Latency(Percentiles(40.0, 41.5), Percentiles(10.1, 11.0), None, ratio=0.2481)
    related = dataclasses.replace(report, budget=bounds, latency_ms=found)
    assert verdict(related) == "met: 0.248x of 0.25x (10.1 ms)"
    missed = dataclasses.replace(related, verdict="missed")
    assert verdict(missed) == "missed: 0.248x of 0.25x (10.1 ms), but another bound is broken"
    noisy = dataclasses.replace(related, verdict="noisy")
    assert verdict(noisy).endswith("whether 0.25x is met")


def test_the_other_bounds_are_named_too(report: Report) -> None:
    bounds = Bounds(10.0, "p50", max_drop=0.5, max_bytes=300_000)
    text = verdict(dataclasses.replace(report, verdict="infeasible", budget=bounds))
    assert "10 ms cannot be met within 0.5 points of quality in 300 kB" in text


def test_unknown_quality_is_said_plainly(report: Report) -> None:
    blind = dataclasses.replace(report, quality=Quality("agreement", None, None, 0, "synthetic"))
    assert "quality is not known: there was no data" in shown(blind)


def test_quality_of_dense_outputs_is_in_decibels(report: Report) -> None:
    dense = Quality("sqnr_db", None, 23.4, 64, outputs={"boxes": 23.4, "scores": 31.0})
    assert "23.4 dB" in shown(dataclasses.replace(report, quality=dense))


def test_what_was_not_timed_is_a_dash(report: Report) -> None:
    untimed = Latency(Percentiles(35.0, 41.5), None, None)
    lines = shown(dataclasses.replace(report, latency_ms=untimed)).splitlines()
    assert lines[1].split() == ["latency", "p50", "35", "ms", "-"]


def test_a_terminal_gets_the_same_figures(report: Report) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    print_report(report, Path("out"), stream, layers=True)
    for figure in ("9.6 ms", "0.27x", "met: 9.6 ms of 10 ms", "<fc>", "no <governor> access"):
        assert figure in stream.getvalue()


def test_align_pads_columns() -> None:
    assert list(align([("a", "1"), ("bb", "22")])) == ["a    1", "bb  22"]
    assert list(align([("a", "1", "x"), ("bb", "22", "y")], right=False)) == [
        "a   1   x",
        "bb  22  y",
    ]
