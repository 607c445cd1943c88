"""`report.html`: one file, no scripts, nothing fetched, everything from the model escaped."""

from collections.abc import Iterable, Sequence
from html import escape

from hwprune.report import figures, text
from hwprune.report.schema import Report

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse } td, th { padding: .2rem .8rem; text-align: right }
td:first-child, th:first-child { text-align: left } tr:nth-child(even) { background: #8881 }
.met { color: #18794e } .missed, .infeasible { color: #c62828 } .noisy { color: #b26a00 }
.bar { display: inline-block; height: .7em; background: #4c78a8 }
"""


def write_html(report: Report) -> str:
    """The whole page."""
    title = escape(f"{report.model.name} on {report.target.name}")
    verdict = escape(figures.verdict(report))
    return (
        "<!doctype html>\n"
        f'<html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>\n'
        f'<h1>{title}: <span class="{report.verdict}">{verdict}</span></h1>\n'
        f"<p>{escape(_setting(report))}<br>{escape(figures.quality_note(report))}</p>\n"
        + _table(("", "original", "compiled", ""), _summary(report))
        + _section("Warnings", _list(report.warnings))
        + _section("Layers", _layers(report))
        + _section("Search", _search(report))
        + _section("Kept at full width", _list(f"{f.name}: {f.why}" for f in report.frozen))
        + _section("Stages", _stages(report))
        + "</html>\n"
    )


def _setting(report: Report) -> str:
    t = report.target
    threads = f"{t.threads} thread{'s' if t.threads != 1 else ''}"
    options = "".join(f", {name} {value}" for name, value in t.runtime_options.items())
    where = f"{t.device}, {t.runtime}, {threads}, batch {t.batch}{options}"
    return f"{where}; from {report.model.source}"


def _summary(report: Report) -> Iterable[Sequence[str]]:
    return ((r.label, r.original, r.compiled, r.change) for r in figures.rows(report))


def _layers(report: Report) -> str:
    """The layer table; the bar is the layer's share of the slowest layer's time."""
    slowest = max((x.predicted_us for x in report.layers), default=0.0) or 1.0
    bars = [_bar(x.predicted_us / slowest) for x in report.layers]
    head = ("layer", "op", "channels", "kernel", "predicted", "")
    return _table(head, text.layer_rows(report), bars) if report.layers else ""


def _search(report: Report) -> str:
    s = report.search
    if not s.evaluations:
        return ""
    words = f"<p>{escape(s.strategy)}, {s.evaluations} evaluations</p>"
    return words + _curve(s.best_so_far)


def _curve(values: Sequence[float], width: int = 480, height: int = 120) -> str:
    """The best loss after each evaluation as a line."""
    if len(values) < 2:
        return ""
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    step = width / (len(values) - 1)
    points = " ".join(
        f"{i * step:.1f},{4 + (height - 8) * (high - v) / span:.1f}" for i, v in enumerate(values)
    )
    line = f'<polyline points="{points}" fill="none" stroke="#4c78a8" stroke-width="2"/>'
    ends = f"<p>best loss: {values[0]:.4g} at first, {values[-1]:.4g} in the end</p>"
    return f'<svg viewBox="0 0 {width} {height}" width="{width}">{line}</svg>{ends}'


def _stages(report: Report) -> str:
    rows = [(s.name, f"{s.seconds:.1f} s", "resumed" if s.resumed else "") for s in report.stages]
    return _table(("stage", "time", ""), rows) if rows else ""


def _section(title: str, body: str) -> str:
    return f"<h2>{title}</h2>\n{body}\n" if body else ""


def _list(items: Iterable[str]) -> str:
    entries = "".join(f"<li>{escape(item)}</li>" for item in items)
    return f"<ul>{entries}</ul>" if entries else ""


def _bar(share: float) -> str:
    return f'<td><span class="bar" style="width:{max(0.0, share) * 8:.2f}em"></span></td>'


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], extra: Sequence[str] = ()) -> str:
    """An escaped table; `extra` holds one ready-made last cell per row."""
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    lines = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
    if extra:
        lines = [line + cell for line, cell in zip(lines, extra, strict=True)]
    return f"<table><tr>{titles}</tr>\n" + "\n".join(f"<tr>{x}</tr>" for x in lines) + "</table>\n"
