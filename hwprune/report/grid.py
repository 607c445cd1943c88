"""The steps of a target's kernels, as a value, as JSON and as text."""

from collections.abc import Iterator
from dataclasses import dataclass

from hwprune.report.jsonio import to_json
from hwprune.report.layers import aligned


@dataclass(frozen=True, slots=True)
class ClassSteps:
    """The pattern of one class of kernels in one of its channel counts (see `latency.teeth`)."""

    op: str
    precision: str
    layout: str
    kind: str  # "dense", "pointwise", "depthwise", or "" for what is no convolution
    role: str  # the count that varies: channels "in", "out" or "both"
    period: int
    heights: tuple[float, ...]
    step: int  # counts off it take a slow path
    slowdown: float  # of the slow path, about
    grain: int  # counts that the hardware works in: of a stair, or of a period of teeth
    least: int = 0  # counts below it take the slow path, too

    @property
    def meaning(self) -> str:
        """What counts off the step cost, in words."""
        if self.period == 1:
            return "every count has its price"
        rest = max(range(self.period), key=lambda r: self.heights[r] - r)
        beyond = f" of {self.period}" if self.grain < self.period else ""
        found = [f"{rest} beyond a step{beyond} cost as much as {self.heights[rest]:.0f}"]
        if self.slowdown > 1.02:
            below = f" or below {self.least}" if self.least else ""
            slow = f"off {self.step}{below} the whole kernel takes about {self.slowdown:.2f} times"
            found = [f"{slow} as long", *(found if beyond else ())]
        return "; ".join(found)


@dataclass(frozen=True, slots=True)
class Grid:
    """What was measured for all networks of a target."""

    target: str
    device: str
    runtime: str
    threads: int
    steps: tuple[ClassSteps, ...]
    rows: int
    rows_measured: int
    seconds: float
    notes: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Canonical JSON."""
        return to_json(self)

    def lines(self) -> Iterator[str]:
        """Aligned columns, then what was measured."""
        rows = [("kernel", "channels", "step", "")]
        for s in self.steps:
            layout = "in blocks" if s.layout else ""
            name = " ".join(filter(None, (s.op, s.kind, s.precision, layout)))
            rows.append((name, s.role, str(s.grain), s.meaning))
        yield from aligned(rows)
        yield f"{self.device}, {self.runtime}, {self.threads} threads"
        measured = f"{self.rows_measured} of them measured now, in {self.seconds:.0f} s"
        yield f"{self.rows} rows, {measured}"
        yield from (f"warning: {note}" for note in self.notes)
