"""Where a network's time goes, layer by layer, as a value, as JSON and as text."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hwprune.report.jsonio import to_json
from hwprune.units import format_ns


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One step of the network with its boundaries: what runs for it and how long that takes."""

    name: str
    kernels: tuple[str, ...]  # as the runtime names them: "NCHWc Conv", "QLinearConv"
    shapes: str  # "1x16x32x32, 16x16x3x3 -> 1x16x32x32"
    ns: float
    deviation_ns: float
    share: float  # of the whole network, 0 to 1
    steps: str  # "in 4, out 8": channel counts off these multiples are wasted; "" where none is


@dataclass(frozen=True, slots=True)
class LayerTable:
    """A profiled network on a target."""

    model: str
    target: str
    device: str
    runtime: str
    threads: int
    batch: int
    layers: tuple[LayerRow, ...]
    predicted_ns: float
    deviation_ns: float
    measured_ns: float
    rows_measured: int
    rows_used: int
    seconds: float
    foreseen: float  # share of the kernels in the runtime's own graph that the rows stand for
    notes: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Canonical JSON."""
        return to_json(self)

    @property
    def setting(self) -> str:
        """Device, runtime, threads and batch, in one line."""
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{self.device}, {self.runtime}, {threads}, batch {self.batch}"


HEAD = ("layer", "kernels", "shapes", "time", "share", "steps")


def layer_cells(table: LayerTable) -> Iterator[tuple[str, ...]]:
    """The table's rows as text, in the order the network runs them."""
    for row in table.layers:
        time = f"{format_ns(row.ns)} +- {format_ns(2 * row.deviation_ns)}"
        kernels = ", ".join(row.kernels) or "-"
        yield row.name, kernels, row.shapes, time, f"{row.share:.1%}", row.steps


def layer_lines(table: LayerTable) -> Iterator[str]:
    """The whole as plain text: aligned columns, then what the figures are worth."""
    yield from aligned([HEAD, *layer_cells(table)])
    yield f"{table.model} on {table.setting}"
    off = table.predicted_ns / table.measured_ns - 1
    yield (
        f"predicted {format_ns(table.predicted_ns)} +- {format_ns(2 * table.deviation_ns)}, "
        f"measured {format_ns(table.measured_ns)} ({off:+.1%})"
    )
    yield f"kernels foreseen: {table.foreseen:.0%} of those in the runtime's own optimised graphs"
    yield (
        f"{table.rows_used} rows, {table.rows_measured} of them measured now, "
        f"in {table.seconds:.0f} s"
    )
    yield from (f"warning: {note}" for note in table.notes)


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Columns as wide as their widest cell."""
    widths = [max(len(row[c]) for row in rows) for c in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
