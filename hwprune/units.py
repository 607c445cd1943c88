"""Budgets and sizes as people write them; parsed here and nowhere else."""

import re
from dataclasses import dataclass

from hwprune.errors import UsageError

_BUDGET = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(ns|us|µs|ms|s|x)")
_SIZE = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(B|kB|KB|MB|GB|KiB|MiB|GiB)")
_NANOSECONDS = {"ns": 1.0, "us": 1e3, "µs": 1e3, "ms": 1e6, "s": 1e9}
_BYTES = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9}
_BYTES |= {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_ROUNDS_UP = 0.9995  # three digits of 999.6 us are 1 ms


@dataclass(frozen=True, slots=True)
class Budget:
    """A latency bound: absolute, or a ratio of the measured original. Exactly one is set."""

    latency_ns: float | None = None
    ratio: float | None = None

    def resolve_ns(self, original_ns: float) -> float:
        """The bound in nanoseconds, given the original's measured latency."""
        return self.latency_ns if self.latency_ns is not None else (self.ratio or 0) * original_ns

    def __str__(self) -> str:
        return f"{self.ratio:g}x" if self.latency_ns is None else format_ns(self.latency_ns)


def parse_budget(text: str) -> Budget:
    """Reads '10ms', '800us' or '0.4x'. Raises UsageError."""
    match = _BUDGET.fullmatch(text.strip())
    if not match or float(match[1]) <= 0:
        raise UsageError(
            f"budget {text!r} is not a latency",
            "write a positive number with its unit: 10ms, 800us, or 0.4x of the original",
        )
    value, unit = float(match[1]), match[2]
    return Budget(ratio=value) if unit == "x" else Budget(latency_ns=value * _NANOSECONDS[unit])


def parse_size(text: str) -> int:
    """Reads '500kB' or '1.5MB' as bytes. Raises UsageError."""
    match = _SIZE.fullmatch(text.strip())
    if not match or float(match[1]) <= 0:
        raise UsageError(f"size {text!r} is not a number of bytes", "write it as 500kB or 1.5MB")
    return int(float(match[1]) * _BYTES[match[2]])


def format_ns(ns: float) -> str:
    """'10 ms', '812 us': three significant digits in the unit people would use."""
    for unit, scale in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if ns >= _ROUNDS_UP * scale:
            digits = ".3g" if ns < 1000 * _ROUNDS_UP * scale else ".0f"
            return f"{ns / scale:{digits}} {unit}"
    return f"{ns:.0f} ns"


def format_bytes(count: float) -> str:
    """'1.5 MB', '312 kB'."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= _ROUNDS_UP * scale:
            scaled = count / scale
            return f"{scaled:.3g} {unit}" if scaled < 100 else f"{scaled:.0f} {unit}"
    return f"{count:.0f} B"


def format_count(count: float) -> str:
    """'1.24 G', '38.4 M'."""
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= _ROUNDS_UP * scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count:.0f}"
