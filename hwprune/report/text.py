"""A report for people: a coloured table on a terminal, aligned columns anywhere else."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TextIO

from hwprune.report import figures
from hwprune.report.schema import Report

_COLOURS = {"met": "bold green", "missed": "bold red", "infeasible": "bold red", "noisy": "yellow"}
_HEAD = ("", "original", "compiled", "")
_LAYER_HEAD = ("layer", "op", "channels", "kernel", "predicted")


def print_report(report: Report, folder: Path | None, stream: TextIO, layers: bool = False) -> None:
    """The short table, the verdict and where the files are; `layers` adds the layer table."""
    show = _show_rich if stream.isatty() else _show_plain
    if layers:
        show(_LAYER_HEAD, list(layer_rows(report)), stream)
    show(_HEAD, [(r.label, r.original, r.compiled, r.change) for r in figures.rows(report)], stream)
    _line(figures.verdict(report), stream, _COLOURS[report.verdict])
    for line in closing_lines(report, folder):
        _line(line, stream)


def layer_rows(report: Report) -> Iterable[tuple[str, ...]]:
    """Name, operator, channels before and after, kernel and predicted time of every layer."""
    for x in report.layers:
        cost = figures.microseconds(x.predicted_us)
        yield x.name, x.op, figures.fate(x), figures.kernel(x), cost


def closing_lines(report: Report, folder: Path | None) -> Iterable[str]:
    """What the quality figure means, the slowest layers, rewrites, few bits, warnings, deployment,
    files.
    """
    yield figures.quality_note(report)
    if report.verdict == "infeasible" and report.layers:
        slowest = (f"{x.name} {figures.microseconds(x.predicted_us)}" for x in report.dominating())
        yield f"most of it: {', '.join(slowest)}"
    if report.rewrites:
        yield f"rewritten: {', '.join(map(figures.rewrite, report.rewrites))}"
    if note := figures.storage_note(report):
        yield note
    if report.frozen:
        yield f"groups kept at full width: {len(report.frozen)} (report.json says why)"
    yield from (f"warning: {text}" for text in report.warnings)
    if found := figures.nearest(report):
        yield f"everything else would hold with about {found} (predicted)"
    if settings := figures.deployment(report):
        yield f"deploy with: {settings}"
    if folder is not None:
        yield f"files: {', '.join(str(folder / name) for name in report.artifacts.values())}"


def align(rows: Iterable[Sequence[str]], right: bool = True) -> Iterable[str]:
    """Rows of cells as lines; `right` aligns all columns but the first to the right."""
    table = list(rows)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for first, *others in table:
        pairs = zip(others, widths[1:], strict=True)
        cells = [c.rjust(w) if right else c.ljust(w) for c, w in pairs]
        yield "  ".join([first.ljust(widths[0]), *cells]).rstrip()


def _show_plain(head: Sequence[str], rows: Sequence[Sequence[str]], stream: TextIO) -> None:
    print(*align([head, *rows]), "", sep="\n", file=stream)


def _show_rich(head: Sequence[str], rows: Sequence[Sequence[str]], stream: TextIO) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="dim", pad_edge=False)
    for i, title in enumerate(head):
        table.add_column(title, justify="right" if i else "left")
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console(file=stream)
    console.print(table)
    console.print()


def _line(text: str, stream: TextIO, style: str = "") -> None:
    if not stream.isatty():
        print(text, file=stream)
        return
    from rich.console import Console
    from rich.text import Text

    Console(file=stream, highlight=False).print(Text(text, style=style), soft_wrap=True)
