"""A finished run in words: what was rewritten, which kernel each layer got, and why."""

from collections.abc import Iterator

from hwprune.report import figures
from hwprune.report.schema import Layer, Report


def explanation(report: Report) -> Iterator[str]:
    """What became of the network, a line for every rewrite and every layer."""
    yield figures.verdict(report)
    yield from _rewrites(report)
    yield from _kernels(report)


def _rewrites(report: Report) -> Iterator[str]:
    if not report.rewrites:
        yield "nothing was rewritten: no exact rewrite applies, or none was measured to be faster"
        return
    yield f"rewritten exactly, each as it was measured to be faster on {report.target.name}:"
    for found in report.rewrites:
        change = 100 * (1 - found.ratio)
        yield f"- {found.name}: {found.what}; {change:.1f} % less time for the whole network"


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
