"""A run in words."""

import dataclasses

from hwprune.report import Report
from hwprune.report.explain import explanation
from hwprune.report.schema import Cut


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


def test_cuts_are_explained_by_price_worth_and_step(report: Report) -> None:
    cuts = (
        Cut("conv1", 64, 48, 960.0, 0.031, 52, 90.0, 0.004),
        Cut("conv2", 64, 40, 400.0, 0.02, 64, 400.0, 0.02),
        Cut("conv3", 64, 33, 50.0, 0.01, 40, 0.0, 0.001),
    )
    lines = {x.split(":")[0]: x for x in explanation(dataclasses.replace(report, cuts=cuts))}
    assert "48 of 64 kept; all of them would take 960 us more (10." in lines["- conv1"]
    assert "save a loss of 0.031; the next step, 52, takes 90 us for 0.004" in lines["- conv1"]
    assert "there is no width between" in lines["- conv2"]
    assert "40 would cost no time, for a loss of 0.001" in lines["- conv3"]
