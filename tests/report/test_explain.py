"""A run in words."""

import dataclasses

from hwprune.report import Report
from hwprune.report.explain import explanation


def test_rewrites_and_kernels_are_explained(report: Report) -> None:
    lines = list(explanation(report))
    assert lines[0] == "met: 9.6 ms of 10 ms"
    assert (
        "- shortcuts: shortcuts are <1x1> convolutions; 6.6 % less time for the whole network"
        in lines
    )
    by_layer = {line.split()[1]: line for line in lines if line.startswith("- ")}
    assert "64x64 -> 48x40): int8, 512 us predicted; quantised (8-bit" in by_layer["conv1"]
    assert "dropped with its branch" in by_layer["conv2"]
    assert "fp32, 3 ms predicted; int8 was slower" in by_layer["<fc>"]


def test_no_rewrite_is_said_too(report: Report) -> None:
    plain = dataclasses.replace(report, rewrites=(), layers=())
    assert [line for line in explanation(plain) if "nothing was rewritten" in line]
