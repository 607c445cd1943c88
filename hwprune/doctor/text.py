"""A checkup as lines: tables of facts, then what they mean."""

from collections.abc import Iterable, Iterator, Mapping
from textwrap import wrap
from typing import TYPE_CHECKING

from hwprune.doctor.advice import Advice
from hwprune.doctor.installation import Need, TargetState
from hwprune.report.text import align
from hwprune.units import format_ns

if TYPE_CHECKING:
    from hwprune.doctor.checkup import Checkup
    from hwprune.doctor.noise import Noise

_UNITS = {"mhz": "MHz", "c": "degrees C", "s": "s", "mb": "MB", "cpus": "CPUs"}
_WIDTH = 100


def installation_lines(needs: Iterable[Need], targets: Iterable[TargetState]) -> Iterator[str]:
    """Versions and targets, each fit or not."""
    versions = [(_mark(n.fit), n.name, n.found or "missing", f"needs {n.wanted}") for n in needs]
    yield from _section("Versions", versions)
    yield from _section("Targets", [(_mark(t.usable), t.name, t.what) for t in targets])


def target_lines(found: "Checkup") -> Iterator[str]:
    """What the target is, how it is set up now, how noisy it is, what is known about it."""
    identity = found.identity
    facts = {
        "device": identity.device,
        "runtime": identity.runtime,
        "threads by default": str(found.threads),
        "bits of int8 weights": str(found.weight_bits),
        **identity.details,
    }
    yield from _section(f"Target {found.target}", _facts(facts))
    yield from _section("Conditions", _facts(found.conditions))
    if found.noise:
        yield from _section("Noise", _noise(found.noise))
    table = (("file", found.table.path or "none"), ("rows", str(found.table.rows)))
    yield from _section("Latency table", table)


def advice_lines(advice: Iterable[Advice]) -> Iterator[str]:
    """What this means, each with what to do."""
    yield "What this means"
    for a in advice:
        yield from _wrapped("  ", f"{a.level}: {a.what}")
        yield from _wrapped("    -> ", a.todo)


def _wrapped(mark: str, text: str) -> list[str]:
    return wrap(text, _WIDTH, initial_indent=mark, subsequent_indent=" " * (len(mark) + 2))


def _section(title: str, rows: Iterable[Iterable[str]]) -> Iterator[str]:
    if table := [("", *row) for row in rows]:
        yield from (title, *align(table, right=False), "")


def _facts(values: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Units go from the names, where programs read them, to the values."""
    for name, value in values.items():
        label, _, unit = name.rpartition("_")
        if label and unit in _UNITS:
            yield label.replace("_", " "), _with_unit(value, _UNITS[unit])
        else:
            yield name.replace("_", " "), value


def _with_unit(value: str, unit: str) -> str:
    return f"{value} {unit}" if value[:1].isdecimal() else value


def _noise(noise: "Noise") -> Iterator[tuple[str, str]]:
    yield "runs", f"{noise.runs} of one convolution, timed as two files in turns"
    yield "p20", format_ns(noise.p20_ns)
    yield "p50, p90, p99", f"{noise.p50:.2f}, {noise.p90:.2f}, {noise.p99:.2f} times p20"
    yield "CPU time", f"{noise.cpu_share:.2f} of wall time"
    yield "processes", f"{noise.spread:.1%} apart"
    yield "file against itself", f"{noise.twins:.1%} apart"
    yield "drift", f"{noise.drift:+.1%} from the first half to the second"
    yield "in short", noise.level


def _mark(good: bool) -> str:
    return "ok" if good else "BAD"
