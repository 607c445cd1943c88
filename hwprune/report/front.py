"""A front of time against quality: `front.json`, its page and its table."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

from hwprune.report import figures, jsonio
from hwprune.report.page import page, table
from hwprune.report.schema import EXIT_CODES, Report, Verdict
from hwprune.store.files import write_atomic
from hwprune.units import format_bytes, format_ns

SCHEMA = 1
_HEAD = ("network", "budget", "measured", "quality", "size", "")


@dataclass(frozen=True, slots=True)
class FrontPoint:
    """One finished network: where it lies and what its own report says in short.

    `ratio` is its measured time over the original's, `quality` as in that report.
    """

    folder: str
    verdict: Verdict
    budget_ratio: float
    latency_ms: float
    ratio: float
    metric: str
    quality: float | None
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Front:
    """All networks of one run, the loosest budget first; `original` is what they came from."""

    original: FrontPoint
    points: tuple[FrontPoint, ...]
    schema: int = SCHEMA

    @property
    def exit_code(self) -> int:
        """The highest of the networks' own."""
        return max((EXIT_CODES[p.verdict] for p in self.points), default=0)

    def to_json(self) -> str:
        """Canonical JSON."""
        return jsonio.to_json(self)


def front_of(reports: Mapping[str, Report]) -> Front:
    """The front of finished reports by folder, in the order they were made."""
    first = next(iter(reports.values()))
    before = first.latency_ms.original
    original = FrontPoint(
        "original", "met", 1.0, before.p50 if before else 0.0, 1.0, first.quality.metric,
        first.quality.original, first.size_bytes.original,
    )  # fmt: skip
    points = tuple(_point(folder, report) for folder, report in reports.items())
    return Front(original, points)


def rows(front: Front) -> Iterator[tuple[str, ...]]:
    """The table for people, its head first."""
    yield _HEAD
    for p in (front.original, *front.points):
        asked = "" if p is front.original else f"{p.budget_ratio:.3g}x"
        measured = f"{format_ns(1e6 * p.latency_ms)} ({p.ratio:.3g}x)"
        verdict = "" if p is front.original else p.verdict
        yield p.folder, asked, measured, _quality(p), format_bytes(p.size_bytes), verdict


def write_front(out: Path, title: str, front: Front) -> None:
    """Puts `front.json` and `front.html` into a folder. Raises StoreError."""
    write_atomic(out / "front.json", front.to_json().encode())
    write_atomic(out / "front.html", _html(title, front).encode())


def _html(title: str, front: Front) -> str:
    """The plot, where quality is known, and the table."""
    from hwprune.report.plots import front_figure, svg

    head, *body = rows(front)
    known = [p for p in (front.original, *front.points) if p.quality is not None]
    plot = ""
    if len(known) > 1:
        percent = front.original.metric != "sqnr_db"
        heights = [(100 if percent else 1) * (p.quality or 0.0) for p in known]
        names, unit = [p.folder for p in known], f"{front.original.metric}{', %' * percent}"
        plot = svg(front_figure([p.latency_ms for p in known], heights, names, unit))
    return page(title, escape(title), plot + table(head, body))


def _point(folder: str, report: Report) -> FrontPoint:
    latency = report.latency_ms
    return FrontPoint(
        folder,
        report.verdict,
        report.budget.ratio or 0.0,
        latency.compiled.p50 if latency.compiled else 0.0,
        latency.ratio or 0.0,
        report.quality.metric,
        report.quality.compiled,
        report.size_bytes.compiled,
    )


def _quality(p: FrontPoint) -> str:
    if p.quality is None:
        return figures.UNKNOWN
    return f"{p.quality:.1f} dB" if p.metric == "sqnr_db" else f"{100 * p.quality:.2f} %"
