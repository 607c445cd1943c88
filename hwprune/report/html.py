"""`report.html`: what became of the network, as a page."""

from collections.abc import Iterable, Sequence
from html import escape

from hwprune.report import figures, text
from hwprune.report.page import bullets, page, section, table
from hwprune.report.schema import Report


def write_html(report: Report) -> str:
    """The whole page."""
    title = f"{report.model.name} on {report.target.name}"
    verdict = f'<span class="{report.verdict}">{escape(figures.verdict(report))}</span>'
    return page(
        title,
        f"{escape(title)}: {verdict}",
        f"<p>{escape(_setting(report))}<br>{escape(figures.quality_note(report))}</p>\n"
        + table(("", "original", "compiled", ""), _summary(report))
        + section("Warnings", bullets(report.warnings))
        + section("Nearest", bullets(filter(None, [figures.nearest(report)])))
        + section("Layers", _layers(report))
        + section("Rewritten", _rewrites(report))
        + section("Search", _search(report))
        + section("Kept at full width", bullets(f"{f.name}: {f.why}" for f in report.frozen))
        + section("Stages", _stages(report)),
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
    return table(head, text.layer_rows(report), bars) if report.layers else ""


def _rewrites(report: Report) -> str:
    rows = [(r.name, r.what, f"{r.ratio:.3g}x") for r in report.rewrites]
    return table(("rewrite", "what it does", "time"), rows) if rows else ""


def _search(report: Report) -> str:
    s = report.search
    if not s.evaluations:
        return ""
    words = f"<p>{escape(s.strategy)}, {s.evaluations} evaluations</p>"
    if len(s.best_so_far) < 2 or not s.trials:
        return words
    from hwprune.report.plots import svg, trials_figure

    times, losses = [t.latency_ms for t in s.trials], [t.loss for t in s.trials]
    ends = f"<p>best loss: {s.best_so_far[0]:.4g} at first, {s.best_so_far[-1]:.4g} in the end</p>"
    return words + ends + svg(trials_figure(s.best_so_far, times, losses))


def _stages(report: Report) -> str:
    rows = [(s.name, f"{s.seconds:.1f} s", "resumed" if s.resumed else "") for s in report.stages]
    return table(("stage", "time", ""), rows) if rows else ""


def _bar(share: float) -> str:
    return f'<td><span class="bar" style="width:{max(0.0, share) * 8:.2f}em"></span></td>'
