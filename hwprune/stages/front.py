"""Budgets that nobody gave: those along the front, and the least that keeps the quality."""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

import numpy as np

from hwprune.errors import UsageError
from hwprune.plan import Configuration
from hwprune.search.decode import Decoder
from hwprune.stages.building import Built
from hwprune.stages.fitting import AIM
from hwprune.stages.kernels import fastest_kernels, time_only
from hwprune.stages.outcome import Outcome
from hwprune.stages.quality import lost_points
from hwprune.stages.run import Run
from hwprune.stages.sources import classes
from hwprune.stages.timing import Comparison
from hwprune.units import Budget

_STEPS = 5  # of halving what is not known about the least budget
_ROOM = 1.03  # above the fastest network there is

Settled = tuple[Outcome, Built, Comparison]


@dataclass(frozen=True, slots=True)
class Point:
    """A finished network at one budget, and the points of quality that it may have lost."""

    run: Run
    settled: Settled
    drop: float


def reach(run: Run) -> tuple[float, float]:
    """The least ratio worth asking for, and the one that kernels alone reach without pruning."""
    calibration = run.profile.calibration
    whole = run.predicted_ns(Configuration(), calibration)
    fastest = Decoder(time_only(run.profile)).fastest().latency_ns
    unpruned = run.predicted_ns(Configuration(kernels=fastest_kernels(run.profile)), calibration)
    least = min(_ROOM * fastest / whole / AIM, 1.0)
    return least, min(max(unpruned / whole / AIM, least), 1.0)


def front_ratios(run: Run, count: int) -> list[float]:
    """Budgets along the front, the loosest first, each the same share of the one before."""
    least, most = reach(run)
    if run.job.options.budget is not None:
        most = max(least, min(most, run.limit_ns / run.profile.original.quiet))
    return [float(f"{r:.3g}") for r in np.geomspace(most, least, count)]


def fastest_keeping(run: Run, settle: Callable[[Run], Settled]) -> Point:
    """The tightest budget found whose network keeps --max-drop on the search split.

    What kernels alone reach comes first; then halves, in the logarithm, of what is not known.
    Raises UsageError where quality cannot be told.
    """
    job, most = run.job, run.job.options.max_drop or 0.0
    if not job.known or classes(job.graph) is None:
        raise UsageError(
            "--max-drop without --budget needs data and a classifier: quality cannot be told",
            "give --data, or --budget",
        )
    low, ratio = reach(run)
    high = 1.0
    best: Point | None = None
    for _ in range(_STEPS):
        point = _point(run, ratio, settle)
        run.progress.note(f"budget {ratio:.3g}x: about {point.drop:.2f} points are lost at most")
        if point.drop <= most:
            best, high = point, ratio
        else:
            low = ratio
        if high <= low:
            break
        ratio = float(f"{sqrt(low * high):.3g}")
    return best or _point(run, 1.0, settle)


def _point(run: Run, ratio: float, settle: Callable[[Run], Settled]) -> Point:
    under = run.under(Budget(ratio=ratio))
    settled = settle(under)
    return Point(under, settled, lost_points(run.job, run.work, "model.onnx"))
