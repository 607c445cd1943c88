"""The plots and the page of a profile."""

from collections.abc import Iterator
from pathlib import Path

from hwprune.latency.calibrate import Calibration
from hwprune.latency.estimator import Estimator
from hwprune.latency.kernels import CALL, step_part
from hwprune.latency.structure import Step
from hwprune.report.layers import HEAD, LayerRow, layer_cells
from hwprune.report.plots import Share, Staircase, share_figure, staircase_figure, write_png
from hwprune.report.profile_html import profile_html
from hwprune.stages.layer_table import Profiled
from hwprune.store.files import write_atomic

_CURVES = 4  # layers whose widths are drawn
_MOST_COUNTS = 160  # per curve


def write_plots(found: Profiled, folder: Path) -> Iterator[Path]:
    """staircase.png, shares.png and profile.html in `folder`; yields what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    table = found.table
    shares = [Share(r.name, _precision(r), r.ns, r.share) for r in table.layers if r.ns > 0]
    curves = list(_curves(found))
    title = f"{table.model} on {table.target}"
    page = profile_html(
        title, table.setting, HEAD, list(layer_cells(table)), shares, curves, table.notes
    )
    pictures = {"shares.png": share_figure(shares)}
    if curves:
        pictures["staircase.png"] = staircase_figure(curves)
    for name, figure in pictures.items():
        write_png(figure, folder / name)
        yield folder / name
    write_atomic(folder / "profile.html", page.encode())
    yield folder / "profile.html"


def _precision(row: LayerRow) -> str:
    integers = any("Q" in name or "NBits" in name for name in row.kernels)
    return "int8" if integers else "fp32"


def _curves(found: Profiled) -> Iterator[Staircase]:
    """Widths of the most expensive layers, each shape once."""
    steps = {s.node: s for s in found.estimator.network.steps}
    seen: set[str] = set()
    for row in sorted(found.table.layers, key=lambda r: -r.ns):
        if row.name == CALL or row.shapes in seen or len(seen) == _CURVES:
            continue
        curve = _curve(found.estimator, found.calibration, steps[row.name])
        if curve is not None:
            seen.add(row.shapes)
            yield curve


def _curve(estimator: Estimator, calibration: Calibration, step: Step) -> Staircase | None:
    """What `step` costs at every width of the channels that it makes, all else at full width."""
    network = estimator.network
    groups = [g for axis in network.coupling.shapes[step.output] for g in axis.groups]
    free = [g for g in groups if network.coupling.group(g).frozen is None]
    if len(free) != 1:
        return None
    full = network.coupling.full[free[0]]
    stride = -(-full // _MOST_COUNTS)
    counts, measured, predicted, low, high = [], {}, [], [], []
    for width in range(stride, full + 1, stride):
        kernels = network.step_kernels(step, {free[0]: width}, frozenset(), {})
        if any(estimator.families.of(step_part(step), k) is None for k in kernels):
            continue
        found = [estimator.priced_part(step_part(step), k, calibration) for k in kernels]
        ns, deviation = sum(e.ns for e in found), sum(e.deviation for e in found)
        counts.append(width)
        predicted.append(ns)
        low.append(ns - 2 * deviation)
        high.append(ns + 2 * deviation)
        if all(estimator.is_measured(k) for k in kernels):
            measured[width] = ns
    if len(counts) < 4:
        return None
    jumps = estimator.period_of(step_part(step), kernels[0], "out")
    steps = [c for c in counts if jumps > 1 and c % jumps == 0]
    return Staircase(
        f"{step.node} ({step.op})", "channels out", counts, measured, predicted, low, high, steps
    )
