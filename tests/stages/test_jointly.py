"""`--search joint` from end to end, on the null target."""

from collections.abc import Callable
from pathlib import Path

import pytest

import hwprune
from hwprune.errors import InfeasibleError, UsageError
from hwprune.plan import Plan

Options = Callable[..., hwprune.CompileOptions]


def test_a_file_of_that_size_with_bits_for_every_output(ask: Options, tmp_path: Path) -> None:
    asked = ask(tmp_path, "1x", search="joint", max_size=30_000, epochs=1)
    report = hwprune.compile(asked)
    plan = Plan.from_json((tmp_path / "plan.json").read_text())
    size = (tmp_path / "model.onnx").stat().st_size
    assert report.verdict == "met"
    assert 0.9 * 30_000 < size <= 30_000 == report.budget.max_bytes
    assert report.search.strategy == "joint"
    assert report.params.compiled < report.params.original
    assert all(len(kept) % 4 == 0 for kept in plan.keep.values())  # what kernels like
    assert set().union(*plan.channel_bits.values()) <= {2, 4, 8}
    hwprune.load(tmp_path)


def test_a_size_out_of_reach_is_no_network(ask: Options, tmp_path: Path) -> None:
    with pytest.raises(InfeasibleError, match="with the fewest bits"):
        hwprune.compile(ask(tmp_path, "1x", search="joint", max_size=4_000, epochs=1))


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({}, "none is given"),
        ({"max_size": 30_000, "pareto": 3}, "one training"),
        ({"max_size": 30_000, "study": "mine"}, "one training"),
        ({"max_size": 30_000, "data": None}, "has no data"),
    ],
)
def test_what_it_does_not_do_is_said(
    more: dict[str, object], what: str, ask: Options, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=what):
        hwprune.compile(ask(tmp_path, "1x", search="joint", **more))
