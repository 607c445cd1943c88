"""Plots of a profile: what widths cost (staircases) and which layers cost most (shares)."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hwprune.store.files import write_atomic
from hwprune.units import format_ns

# Okabe and Ito's colours, which the colour-blind can tell apart (jfly.uni-koeln.de/color).
_BLUE, _VERMILION, _GREY = "#0072b2", "#d55e00", "#999999"
_COLOURS = (_BLUE, "#e69f00", "#009e73", "#cc79a7", "#56b4e9", _VERMILION, "#f0e442")
_STYLE: dict[Any, Any] = {
    "font.size": 9, "axes.titlesize": 9, "axes.spines.top": False, "axes.spines.right": False,
    "legend.frameon": False, "text.parse_math": False, "svg.fonttype": "none",
    "svg.hashsalt": "hwprune",
}  # fmt: skip
_UNSIGNED = dict.fromkeys(("Creator", "Date", "Format", "Type"))  # equal plots are equal files
_LONGEST_NAME, _LONGEST_TITLE = 44, 52
_MOST_BARS = 30
_DPI = 150


@dataclass(frozen=True, slots=True)
class Staircase:
    """What one layer costs at each of its channel counts.

    `measured_ns` holds the counts that were measured; the prediction, its interval and `counts`
    have one entry each. `steps` are the counts behind which the price jumps.
    """

    title: str
    unit: str  # "channels out", "channels in"
    counts: Sequence[int]
    measured_ns: Mapping[int, float]
    predicted_ns: Sequence[float]
    low_ns: Sequence[float]
    high_ns: Sequence[float]
    steps: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Share:
    """What one layer takes of the whole network's time; `share` is from 0 to 1."""

    name: str
    kernel: str  # "fp32", "int8"
    ns: float
    share: float


def staircase_figure(curves: Sequence[Staircase]) -> Figure:
    """One plot per curve, side by side: points were measured, the line is the prediction."""
    columns = min(2, len(curves)) or 1
    rows = -(-len(curves) // columns) or 1
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.8 * columns, 2.7 * rows + 0.5), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, curve in zip(grid, curves, strict=False):
            _staircase(axes, curve)
        for axes in grid[len(curves) :]:
            axes.set_axis_off()
        _legend(figure)
    return figure


def share_figure(rows: Sequence[Share]) -> Figure:
    """Bars, most expensive first, coloured by kernel; what does not fit is summed up."""
    ordered = sorted(rows, key=lambda r: -r.ns)
    bars = [*ordered[:_MOST_BARS], *_rest(ordered[_MOST_BARS:])]
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(8.0, 0.24 * len(bars) + 1.1), layout="constrained")
        axes = figure.subplots()
        _bars(axes, bars)
        _name_bars(axes, bars)
        _legend(figure)
    return figure


def front_figure(
    latency_ms: Sequence[float], quality: Sequence[float], labels: Sequence[str], unit: str
) -> Figure:
    """Quality against time, a point per network; the first is the original."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        axes = figure.subplots()
        axes.plot(latency_ms[1:], quality[1:], "o-", color=_BLUE, markersize=4)
        axes.plot(latency_ms[:1], quality[:1], "D", color=_GREY, markersize=5)
        for x, y, label in zip(latency_ms, quality, labels, strict=True):
            axes.annotate(label, (x, y), (4, -10), textcoords="offset points", fontsize=8)
        axes.set_xlabel("measured time, ms")
        axes.set_ylabel(unit)
        axes.set_xlim(left=0)
    return figure


def trials_figure(
    best_so_far: Sequence[float], latency_ms: Sequence[float], loss: Sequence[float]
) -> Figure:
    """A search: the least loss after each evaluation, and every candidate by time and loss, with
    the front of those that no other is faster and better than.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(8.6, 3.0), layout="constrained")
        left, right = figure.subplots(1, 2)
        left.plot(range(1, len(best_so_far) + 1), best_so_far, drawstyle="steps-post", color=_BLUE)
        left.set_xlabel("evaluations")
        left.set_ylabel("least loss so far, nats")
        right.plot(latency_ms, loss, "o", color=_GREY, markersize=3)
        front = _front(sorted(zip(latency_ms, loss, strict=True)))
        right.plot(*zip(*front, strict=True), "o-", color=_BLUE, markersize=4)
        right.set_xlabel("predicted time, ms")
        right.set_ylabel("loss, nats")
    return figure


def _front(ordered: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of points by time, those with less loss than everything faster."""
    found = [ordered[0]]
    for point in ordered[1:]:
        if point[1] < found[-1][1]:
            found.append(point)
    return found


def png(figure: Figure) -> bytes:
    """As a bitmap."""
    return _saved(figure, "png", {"Software": None})


def write_png(figure: Figure, path: Path) -> None:
    """As a bitmap in a file, replaced as a whole. Raises StoreError."""
    write_atomic(path, png(figure))


def svg(figure: Figure) -> str:
    """As an element to stand in a page; its text is escaped, nothing in it is fetched."""
    text = _saved(figure, "svg", _UNSIGNED).decode()
    return text[text.index("<svg") :]


def _staircase(axes: Axes, curve: Staircase) -> None:
    unit, scale = _unit(max([*curve.high_ns, *curve.measured_ns.values()], default=0.0))
    low, line, high = (
        [ns / scale for ns in values]
        for values in (curve.low_ns, curve.predicted_ns, curve.high_ns)
    )
    if curve.steps:
        height = axes.get_xaxis_transform()  # from 0 to 1, whatever the times are
        axes.vlines(curve.steps, 0, 1, _GREY, ":", label="step", transform=height, linewidth=0.7)
    # A count costs what the largest of its block costs: the stairs rise to the left of it.
    axes.fill_between(
        curve.counts, low, high, step="pre", color=_VERMILION, alpha=0.2, lw=0, label="interval"
    )
    axes.plot(curve.counts, line, drawstyle="steps-pre", color=_VERMILION, label="predicted")
    points = [ns / scale for ns in curve.measured_ns.values()]
    axes.plot(list(curve.measured_ns), points, "o", color=_BLUE, markersize=3, label="measured")
    axes.set_title(shortened(curve.title, _LONGEST_TITLE), loc="left")
    axes.set_xlabel(curve.unit)
    axes.set_ylabel(unit)
    axes.set_ylim(bottom=0)


def _legend(figure: Figure) -> None:
    """One for all plots, above them; it lists what has a label."""
    found = {
        label: handle
        for axes in figure.axes
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if found:
        figure.legend(found.values(), found, loc="outside upper left", ncols=len(found))


def _rest(rows: Sequence[Share]) -> list[Share]:
    if not rows:
        return []
    total = sum(r.ns for r in rows), sum(r.share for r in rows)
    return [Share(f"{len(rows)} others", "", *total)]


def _bars(axes: Axes, bars: Sequence[Share]) -> None:
    """Kernels in alphabetical order, so that fp32 has the same colour wherever it occurs."""
    kernels = sorted({b.kernel for b in bars if b.kernel})
    colours = dict(zip(kernels, _COLOURS * len(kernels), strict=False)) | {"": _GREY}
    for kernel in dict.fromkeys(b.kernel for b in bars):
        places = [i for i, b in enumerate(bars) if b.kernel == kernel]
        widths = [100 * bars[i].share for i in places]
        label = shortened(kernel, _LONGEST_NAME)
        axes.barh(places, widths, 0.75, color=colours[kernel], label=label)


def _name_bars(axes: Axes, bars: Sequence[Share]) -> None:
    names = [shortened(b.name, _LONGEST_NAME) for b in bars]
    axes.set_yticks(range(len(bars)), names, parse_math=False)
    axes.tick_params(axis="y", length=0)
    for i, bar in enumerate(bars):
        text, end = f"{format_ns(bar.ns)}, {bar.share:.1%}", (100 * bar.share, i)
        axes.annotate(text, end, (3, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_xlabel("% of the network's time")
    axes.set_ylim(max(1, len(bars)) - 0.5, -0.5)  # the first on top
    axes.margins(x=0.25)  # room for the figures


def shortened(text: str, longest: int) -> str:
    """At most that long; the end, which tells layers apart, keeps most of it."""
    clean = "".join(c if c.isprintable() else "?" for c in text)
    head = longest // 4
    tail = longest - 3 - head
    return clean if len(clean) <= longest else f"{clean[:head]}...{clean[-tail:]}"


def _unit(most_ns: float) -> tuple[str, float]:
    return ("ms", 1e6) if most_ns >= 1e6 else ("us", 1e3)


def _saved(figure: Figure, kind: str, metadata: Mapping[str, None]) -> bytes:
    buffer = BytesIO()
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # of a script that the font lacks
        figure.savefig(buffer, format=kind, dpi=_DPI, metadata=dict(metadata))
    return buffer.getvalue()
