"""The figures of a report as words: one place for every rendering (text, terminal, html)."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hwprune.precision import FP32, is_storage_alone
from hwprune.report.schema import (
    Alternative,
    AppliedRewrite,
    Bounds,
    Change,
    Latency,
    Layer,
    Percentiles,
    Report,
)
from hwprune.units import format_bytes, format_count, format_ns

UNKNOWN = "-"
_DECIBELS = "sqnr_db"


@dataclass(frozen=True, slots=True)
class Row:
    """One figure before and after."""

    label: str
    original: str
    compiled: str
    change: str = ""


def rows(report: Report) -> Iterator[Row]:
    """The short table: latency, quality, size, MACs, parameters, prediction, budget."""
    latency = report.latency_ms
    for percentile in ("p50", "p90"):
        before, after = _at(latency.original, percentile), _at(latency.compiled, percentile)
        yield Row(f"latency {percentile}", _ms(before), _ms(after), _times(before, after))
    yield Row("predicted", "", _ms(latency.predicted), _off(latency.predicted, report))
    yield Row("budget", "", f"{_ms(report.budget.latency_ms)} ({report.budget.percentile})")
    yield _quality(report)
    yield _count("size", report.size_bytes, format_bytes)
    if report.packed_bytes is not None:
        packed = Change(report.size_bytes.original, report.packed_bytes)
        yield _count("packed", packed, format_bytes)
    if report.memory_bytes is not None:
        yield _count("activations", report.memory_bytes, format_bytes)
    yield _count("MACs", report.macs, format_count)
    yield _count("parameters", report.params, format_count)


def verdict(report: Report) -> str:
    """One sentence: 'met: 9.6 ms of 10 ms'."""
    budget, latency = report.budget, report.latency_ms
    if report.verdict == "infeasible":
        least = latency.reachable or latency.predicted
        return f"infeasible: {_bounds(report)}; the least reachable latency is {_ms(least)}"
    if report.verdict == "noisy":
        asked = _ms(budget.latency_ms) if budget.ratio is None else f"{budget.ratio:g}x"
        return f"noisy: the times spread too widely to say whether {asked} is met"
    measured = report.measured_ms()
    line = f"{report.verdict}: {spent(budget, latency)}"
    in_time = measured is not None and measured <= budget.latency_ms
    if budget.ratio is not None and latency.ratio is not None:
        in_time = latency.ratio <= budget.ratio
    return (
        f"{line}, but another bound is broken" if report.verdict == "missed" and in_time else line
    )


def spent(budget: Bounds, latency: Latency) -> str:
    """'9.6 ms of 10 ms', or '0.312x of 0.33x (2.1 ms)' where a ratio was asked for."""
    measured = _ms(_at(latency.compiled, budget.percentile))
    if budget.ratio is None or latency.ratio is None:
        return f"{measured} of {_ms(budget.latency_ms)}"
    return f"{latency.ratio:.3g}x of {budget.ratio:g}x ({measured})"


def quality_note(report: Report) -> str:
    """What the quality figure is, in words."""
    q = report.quality
    if q.compiled is None:
        return "quality is not known: there was no data to measure it on"
    names = {"agreement": "agreement with the original network", _DECIBELS: "least output SQNR"}
    kl = "" if q.kl is None else f", mean KL {q.kl:.2g}"
    return f"{names.get(q.metric, q.metric)} on {q.samples} samples of the {q.split} split{kl}"


def deployment(report: Report) -> str:
    """What whoever deploys the file sets for these times to hold; '' if there is nothing to set."""
    settings = (f"{name}={value}" for name, value in report.target.session_options.items())
    return ", ".join(settings)


def storage_note(report: Report) -> str:
    """What weights of few bits are good for; '' if there are none."""
    kept = (x for x in report.layers if any(x.kept))
    few = Counter(x.weight_bits for x in kept if is_storage_alone(x.kernel, x.weight_bits))
    if not few:
        return ""
    counts = ", ".join(f"{n} of {bits} bits" for bits, n in sorted(few.items(), reverse=True))
    return f"weights stored in few bits: {counts}; the file is smaller for it, not faster"


def rewrite(found: AppliedRewrite) -> str:
    """'shortcuts 0.93x': the network's time after over before."""
    return f"{found.name} {found.ratio:.3g}x"


def fate(layer: Layer) -> str:
    """'64x64 -> 48x40', or what else became of the layer."""
    before = "x".join(map(str, layer.channels))
    if not any(layer.kept):
        return f"{before} -> dropped"
    after = "x".join(map(str, layer.kept))
    return before if before == after else f"{before} -> {after}"


def kernel(layer: Layer) -> str:
    """'int8' or 'int8 w4', 'fp32', '-' for a layer that is gone."""
    if not any(layer.kept):
        return UNKNOWN
    unusual = layer.kernel != FP32 and layer.weight_bits not in (0, 8)
    return f"{layer.kernel} w{layer.weight_bits}" if unusual else layer.kernel


def nearest(report: Report) -> str:
    """'about --budget 12ms, or --max-size 250kB'; '' where nothing was in the way."""

    def spelt(a: Alternative) -> str:
        value = _ms(a.value) if a.bound == "budget" else format_bytes(a.value)
        return f"--{a.bound.replace('_', '-')} {value.replace(' ', '')}"

    return ", or ".join(map(spelt, report.nearest))


def microseconds(value: float) -> str:
    """'12.3 us'."""
    return format_ns(value * 1e3)


def _bounds(report: Report) -> str:
    budget = report.budget
    parts = [f"{_ms(budget.latency_ms)} cannot be met"]
    if budget.max_drop is not None:
        parts.append(f"within {budget.max_drop:g} points of quality")
    if budget.max_bytes is not None:
        parts.append(f"in {format_bytes(budget.max_bytes)}")
    if budget.max_memory is not None:
        parts.append(f"with {format_bytes(budget.max_memory)} of activations")
    return " ".join(parts)


def _quality(report: Report) -> Row:
    q = report.quality
    if q.metric == _DECIBELS:
        return Row("SQNR", UNKNOWN, UNKNOWN if q.compiled is None else f"{q.compiled:.1f} dB")
    if q.original is None or q.compiled is None:
        return Row("quality", UNKNOWN, "not known")
    change = f"{100 * (q.compiled - q.original):+.2f} points"
    return Row(q.metric, f"{100 * q.original:.2f} %", f"{100 * q.compiled:.2f} %", change)


def _count(label: str, change: Change, spell: Callable[[float], str]) -> Row:
    before, after = change.original, change.compiled
    return Row(label, spell(before), spell(after), _times(before, after))


def _at(percentiles: Percentiles | None, name: str) -> float | None:
    return None if percentiles is None else getattr(percentiles, name)


def _ms(value: float | None) -> str:
    return UNKNOWN if value is None else format_ns(value * 1e6)


def _times(before: float | None, after: float | None) -> str:
    """'0.31x': after as a ratio of before."""
    return f"{after / before:.2f}x" if before and after is not None else ""


def _off(predicted: float | None, report: Report) -> str:
    measured = _at(report.latency_ms.compiled, "p50")
    return f"{100 * (predicted / measured - 1):+.0f} %" if predicted and measured else ""
