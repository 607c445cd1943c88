"""Budgets and sizes as people write them, and figures as people read them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprune.errors import UsageError
from hwprune.units import (
    Budget,
    format_bytes,
    format_count,
    format_ns,
    parse_budget,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("10ms", Budget(latency_ns=1e7)),
        (" 800 us ", Budget(latency_ns=8e5)),
        ("800µs", Budget(latency_ns=8e5)),
        (".5s", Budget(latency_ns=5e8)),
        ("1500ns", Budget(latency_ns=1500.0)),
        ("0.4x", Budget(ratio=0.4)),
    ],
)
def test_budgets(text: str, budget: Budget) -> None:
    assert parse_budget(text) == budget


@pytest.mark.parametrize("text", ["", "10", "0ms", "0.0x", "-1ms", "1e3ms", "10 parsecs", "10ms!"])
def test_nonsense_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_budget(text)
    assert "10ms" in caught.value.hint


def test_a_ratio_is_of_the_original() -> None:
    assert parse_budget("0.4x").resolve_ns(2e6) == 8e5
    assert parse_budget("3ms").resolve_ns(2e6) == 3e6


@pytest.mark.parametrize(
    ("text", "size"), [("500kB", 500_000), ("1.5MB", 1_500_000), ("2KiB", 2048)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["500", "0kB", "-1MB", "many"])
def test_nonsense_sizes_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_size(text)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (format_ns(1e7), "10 ms"),
        (format_ns(812_345.0), "812 us"),
        (format_ns(3.5), "4 ns"),
        (format_ns(999_600.0), "1 ms"),
        (format_ns(999_400.0), "999 us"),
        (format_bytes(999_900), "1 MB"),
        (format_ns(2.5e9), "2.5 s"),
        (format_bytes(312_000), "312 kB"),
        (format_bytes(12), "12 B"),
        (format_count(1.24e9), "1.24 G"),
        (format_count(7), "7"),
    ],
)
def test_figures(written: str, expected: str) -> None:
    assert written == expected


@given(st.floats(min_value=1.0, max_value=1e12))
def test_what_is_written_reads_back_to_three_digits(ns: float) -> None:
    assert parse_budget(format_ns(ns)).resolve_ns(0) == pytest.approx(ns, rel=0.006, abs=0.5)
