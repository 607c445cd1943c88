"""An inspection or a verification as lines of text."""

from collections.abc import Iterator

from hwprune.report import figures
from hwprune.report.inspection import GroupInfo, Inspection, VerifyResult
from hwprune.report.schema import Percentiles
from hwprune.units import format_count, format_ns


def inspection_lines(found: Inspection) -> Iterator[str]:
    """A tree: the network, its groups of coupled channels, its branches, what is frozen."""
    shapes = ", ".join(f"{n} {'x'.join(map(str, s))}" for n, s in found.inputs.items())
    cost = f"{format_count(found.macs)} MACs, {format_count(found.params)} parameters"
    yield f"{found.name} ({found.source}): {cost}, input {shapes}"
    free = [g for g in found.groups if g.frozen is None]
    frozen = [g for g in found.groups if g.frozen is not None]
    if not free and not found.branches:
        yield "nothing in this network can be pruned; it can still be quantised"
    yield from _section("groups of coupled channels", [_group(g) for g in free])
    branches = [f"{b.name}: {len(b.nodes)} nodes, {b.macs_share:.1%}" for b in found.branches]
    yield from _section("branches that may go whole", branches)
    yield from _section("frozen", [f"{g.name}: {_channels(g)}, {g.frozen}" for g in frozen])


def verification_lines(result: VerifyResult) -> Iterator[str]:
    """Times, parity, verdict."""
    for name in ("original", "compiled"):
        yield f"{name}: {_times(getattr(result.latency_ms, name))}"
    noise = "".join(f", {n} {db:.1f} dB" for n, db in result.sqnr_db.items())
    yield f"parity: largest difference {result.max_abs:.3g}{noise}"
    yield from (f"warning: {text}" for text in result.warnings)
    spent = figures.spent(result.budget, result.latency_ms)
    yield f"{result.verdict}: {spent} at {result.budget.percentile}"


def _section(title: str, lines: list[str]) -> Iterator[str]:
    if not lines:
        return
    yield f"{title} ({len(lines)})"
    yield from (f"|- {line}" for line in lines[:-1])
    yield f"`- {lines[-1]}"


def _group(group: GroupInfo) -> str:
    step = f", steps of {group.step}" if group.step > 1 else ""
    path = f"{_names(group.producers)} -> {_names(group.consumers)}"
    cost = f"{group.macs_share:.1%} of MACs, {group.params_share:.1%} of parameters"
    return f"{group.name}: {_channels(group)}{step}, {cost}, {path}"


def _channels(group: GroupInfo) -> str:
    return f"{group.width * group.step} channels"


def _names(nodes: tuple[str, ...]) -> str:
    more = f" and {len(nodes) - 3} more" if len(nodes) > 3 else ""
    return ", ".join(nodes[:3]) + more


def _times(percentiles: Percentiles | None) -> str:
    if percentiles is None:
        return "not timed"
    return f"p50 {format_ns(percentiles.p50 * 1e6)}, p90 {format_ns(percentiles.p90 * 1e6)}"
