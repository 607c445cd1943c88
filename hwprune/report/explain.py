"""A finished run in words: what was rewritten, cut, and run by which kernel, and why."""

from collections.abc import Iterator

from hwprune.report import figures
from hwprune.report.schema import Cut, Layer, Report


def explanation(report: Report) -> Iterator[str]:
    """What became of the network, a line for every rewrite and every layer."""
    yield figures.verdict(report)
    yield from _rewrites(report)
    yield from _cuts(report)
    yield from _kernels(report)


def _rewrites(report: Report) -> Iterator[str]:
    if not report.rewrites:
        yield "nothing was rewritten: no exact rewrite applies, or none was measured to be faster"
        return
    yield f"rewritten exactly, each as it was measured to be faster on {report.target.name}:"
    for found in report.rewrites:
        change = 100 * (1 - found.ratio)
        yield f"- {found.name}: {found.what}; {change:.1f} % less time for the whole network"


def _cuts(report: Report) -> Iterator[str]:
    """Prices are those of the table, worths those of the criterion, per sample."""
    if not report.cuts:
        return
    total = 1e3 * (report.latency_ms.predicted or 0.0)
    yield "channels, the dearest first (time by the table, loss as estimated before the search):"
    for cut in report.cuts:
        yield f"- {cut.name}: {cut.kept} of {cut.width} kept; {_whole(cut, total)}; {_step(cut)}"


def _whole(cut: Cut, total_us: float) -> str:
    if cut.whole_us <= 0:
        return f"all of them would cost no time: the search found {cut.kept} to lose nothing"
    share = f" ({cut.whole_us / total_us:.1%} of the network)" if total_us else ""
    price = f"{figures.microseconds(cut.whole_us)} more{share}"
    return f"all of them would take {price} and save a loss of {cut.whole_loss:.2g}"


def _step(cut: Cut) -> str:
    """Whether more would have been cheap: on a plateau it is free, and lost nothing either."""
    if cut.step == cut.width:
        return "there is no width between"
    if cut.step_us <= 0:
        return f"{cut.step} would cost no time, for a loss of {cut.step_loss:.2g}"
    price = figures.microseconds(cut.step_us)
    return f"the next step, {cut.step}, takes {price} for {cut.step_loss:.2g}"


def _kernels(report: Report) -> Iterator[str]:
    if not report.layers:
        return
    yield "kernels:"
    for layer in report.layers:
        yield f"- {layer.name} ({layer.op}, {figures.fate(layer)}): {_why(layer)}"


def _why(layer: Layer) -> str:
    """The kernel of a layer and the reason for it, as far as the report knows."""
    if not any(layer.kept):
        return "dropped with its branch, which costs less quality than it saves time"
    took = f"{figures.kernel(layer)}, {figures.microseconds(layer.predicted_us)} predicted"
    if layer.kernel == "fp32":
        return f"{took}; int8 was slower there, cost too much quality, or is not to be had"
    bits = f"{layer.weight_bits}-bit weights, {layer.act_bits}-bit activations"
    return f"{took}; quantised ({bits}): the time saved was worth what it costs in quality"
