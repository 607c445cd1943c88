"""Bounds that exclude one another: what is nearest to them, to be built and to be told."""

from collections.abc import Iterator
from dataclasses import replace
from math import sqrt

from hwprune.errors import InfeasibleError
from hwprune.latency.calibrate import Calibration
from hwprune.plan import Plan
from hwprune.progress import Silent
from hwprune.report.schema import Alternative
from hwprune.search.decode import Decoder
from hwprune.search.nearest import least_time, least_widening
from hwprune.stages.building import build
from hwprune.stages.fitting import planned_ns
from hwprune.stages.losses import Losses
from hwprune.stages.quality import lost_points
from hwprune.stages.run import Run
from hwprune.store.files import write_atomic

_STEPS = 4  # of halving what is not known about the time that keeps the quality
_TRIED = "nearest.onnx"


def with_wider_bounds(
    run: Run, losses: Losses, calibration: Calibration
) -> tuple[Losses, tuple[Alternative, ...]] | None:
    """Losses under the nearest bounds that the budget allows, and what to tell of it.

    None where bounds are not what is in the way.
    """
    if not losses.bounds:
        return None
    problem = losses.problem(run.profile, calibration)
    try:
        factor = least_widening(problem, planned_ns(run))
    except InfeasibleError:
        return None
    wider = tuple(b.at_most(factor * b.most) for b in losses.bounds)
    least = least_time(problem)
    return replace(losses, bounds=wider), tuple(_told(run, factor, least))


def _told(run: Run, factor: float, least_ns: float | None) -> Iterator[Alternative]:
    options = run.job.options
    if least_ns is not None:
        yield Alternative("budget", least_ns * run.limit_ns / planned_ns(run) / 1e6)
    if options.max_size is not None:
        yield Alternative("max_size", factor * options.max_size)
    if options.max_memory is not None:
        yield Alternative("max_memory", factor * options.max_memory)


def time_that_keeps(run: Run, losses: Losses, calibration: Calibration) -> Alternative | None:
    """About the least time at which --max-drop holds; None if it does not hold in any.

    By networks that the knapsack gives, repaired but not trained: no search, and no timing.
    """
    most, low, high = run.job.options.max_drop or 0.0, run.limit_ns, run.profile.original.quiet
    if high <= low or not _keeps(run, losses, calibration, high, most):
        return None
    for _ in range(_STEPS):
        middle = sqrt(low * high)
        if _keeps(run, losses, calibration, middle, most):
            high = middle
        else:
            low = middle
    return Alternative("budget", high / 1e6)


def _keeps(run: Run, losses: Losses, calibration: Calibration, ns: float, most: float) -> bool:
    try:
        share = planned_ns(run) / run.limit_ns
        found = Decoder(losses.problem(run.profile, calibration)).decode(share * ns)
    except InfeasibleError:
        return False
    plan = losses.plan(run.job, run.profile.configuration(found.assignment))
    return lost_untrained(run, plan) <= most


def lost_untrained(run: Run, plan: Plan) -> float:
    """Points that a plan's network loses on the search split, repaired and quantised (see
    `lost_points`).
    """
    job = replace(run.job, options=replace(run.job.options, epochs=0))
    write_atomic(run.work / _TRIED, build(job, plan, Silent()).model.SerializeToString())
    return lost_points(job, run.work, _TRIED)
