"""The closed loop: search, time the very network that was found, correct the table, search again.

What a file costs does not depend on the values of its weights, so a candidate is timed with
made-up quantisation ranges before anything is spent on repairing or calibrating it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from statistics import geometric_mean, median

from hwprune.errors import InfeasibleError
from hwprune.export.lower import lower
from hwprune.export.placeholder import placeholder_encodings
from hwprune.graph.read import to_proto
from hwprune.graph.slim import slim
from hwprune.latency.calibrate import Calibration
from hwprune.plan import Plan
from hwprune.pruning.damage import damaged, give_biases
from hwprune.search.decode import Decoder
from hwprune.search.problem import Assignment, Bound
from hwprune.search.study import SearchResult
from hwprune.stages.losses import Losses
from hwprune.stages.run import Run
from hwprune.stages.searching import (
    ENOUGH,
    finalists,
    planned_problem,
    run_search,
)
from hwprune.stages.sizes import FILE
from hwprune.stages.sources import Job
from hwprune.stages.timing import PROCESSES, Comparison, compare
from hwprune.store.files import write_atomic

AIM = 0.965  # of the budget: room for what differs between two measurements
_ROOM = (0.03, 0.12)  # more room, as processes disagree, where less of the budget costs no quality
_ROUNDS = 4
_LEAST_USE = 0.945  # of the budget; below it quality was given away
_LOSSLESS_USE = 0.90  # of the budget; enough where no more quality is to be had, or to be told
_FULL = 0.95  # of a bound beside the time
CANDIDATE = "candidate.onnx"
_MOST_USE = 0.99  # of the budget; above it the next timing may well be over it


@dataclass(frozen=True, slots=True)
class Fit:
    """A configuration that was found, and how its untrained twin was timed.

    `loss` is the search's, after a thorough repair; `predicted_ns` holds under `calibration`.
    """

    plan: Plan
    assignment: Assignment
    loss: float
    search: SearchResult
    calibration: Calibration
    predicted_ns: float
    comparison: Comparison
    size_bytes: int = 0  # of the file, with placeholder ranges
    full: float = 0.0  # share of the tightest bound beside time that it takes

    @property
    def lossless(self) -> bool:
        """Whether nothing to speak of is lost."""
        return self.loss <= ENOUGH


def fit_budget(run: Run, losses: Losses, calibration: Calibration | None = None) -> Fit:
    """Repeats search and timing until the network uses nearly all of the budget, and no more.

    Every round times its finalists, the best first, until one fits: the table is most hopeful about
    the very candidates that it made look good. `calibration` is what a timing near the budget has
    taught already, if there was one.

    Raises InfeasibleError if nothing that was timed fits, and the table knows nothing faster.
    """
    calibration = calibration or first_look(run, losses)
    timed: list[Fit] = []
    factors: list[float] = []
    best: Fit | None = None
    for number in range(_ROUNDS):
        try:
            new = one_round(run, losses, calibration, timed)
        except InfeasibleError:
            if not any(run.used(f.comparison) <= 1 for f in timed):
                raise
            break
        if not new:
            break
        timed += new
        losses = _resized(losses, new)
        before, best = best, chosen(run, timed)
        used = run.used(best.comparison)
        run.progress.note(f"round {number + 1}: {used:.3f} of the budget, loss {best.loss:.4f}")
        if _settles(run, best) and (number or best.loss <= min(f.loss for f in timed)):
            break
        if best is before and best.lossless and used <= _MOST_USE:
            break  # it fits, nothing is lost, and another search found nothing that uses more
        # What the table misses differs from plan to plan: the last round alone would overshoot.
        factors.append(median(_factor(run, f) for f in new))
        calibration = replace(calibration, factor=geometric_mean(factors))
    return chosen(run, timed)


def _factor(run: Run, fit: Fit) -> float:
    return corrected(fit.calibration, fit.predicted_ns, run.expected_ns(fit.comparison)).factor


def first_look(run: Run, losses: Losses) -> Calibration:
    """The calibration corrected by one timing, near where the search is going to look."""
    calibration = run.profile.calibration
    problem = planned_problem(run, losses, calibration, planned_ns(run))
    found = Decoder(problem).decode(planned_ns(run))
    c = run.profile.configuration(found.assignment)
    comparison = time_plan(run, losses.plan(run.job, c))
    predicted = run.predicted_ns(c, calibration)
    return corrected(calibration, predicted, run.expected_ns(comparison))


def corrected(calibration: Calibration, predicted_ns: float, seen_ns: float) -> Calibration:
    """The calibration under which the prediction would have been right."""
    return replace(calibration, factor=calibration.factor * seen_ns / predicted_ns)


def planned_ns(run: Run, before: Sequence[Fit] = ()) -> float:
    """The latency that the decoder aims at after what was timed `before`, nanoseconds."""
    return run.limit_ns * min((AIM - _room(run, f) for f in before), default=AIM)


def _room(run: Run, fit: Fit) -> float:
    if not fit.lossless:
        return 0.0
    least, most = _ROOM
    return min(max(fit.comparison.spread(run.budget), least), most)


def time_plan(run: Run, plan: Plan, processes: int = PROCESSES) -> Comparison:
    """Times a plan's network against the original, with placeholder quantisation ranges."""
    options, path = run.job.options, run.work / CANDIDATE
    write_atomic(path, _untrained(run.job, plan))

    def measure() -> Comparison:
        return compare(
            run.job.backend,
            run.work / "original.onnx",
            path,
            run.job.threads,
            options.limits.verify_seconds / 2,
            options.percentile,
            processes,
        )

    with run.progress.stage("time"):
        return run.timed(path, f"compare-{processes}", measure)


def one_round(
    run: Run, losses: Losses, calibration: Calibration, before: Sequence[Fit]
) -> list[Fit]:
    """Searches under `calibration`, and times finalists that were not timed `before`."""
    known = [f.assignment for f in before]
    with run.progress.stage("search", total=1) as stage:
        earlier = before[-1].search if before else None
        result = run_search(run, losses, calibration, planned_ns(run, before), earlier, stage)
        ranked = finalists(run, losses, result)
    timed: list[Fit] = []
    for assignment, loss in ranked:
        if assignment in known:
            break
        c = run.profile.configuration(assignment)
        plan = losses.plan(run.job, c)
        predicted = run.predicted_ns(c, calibration)
        comparison = time_plan(run, plan)
        size = (run.work / CANDIDATE).stat().st_size
        full = max((b.of(assignment) / b.most for b in losses.bounds), default=0.0)
        timed.append(
            Fit(plan, assignment, loss, result, calibration, predicted, comparison, size, full)
        )
        if run.used(comparison) <= _MOST_USE and not _too_large(run, timed[-1]):
            break
    return timed


def chosen(run: Run, timed: Sequence[Fit]) -> Fit:
    """The least loss among those that safely fit, or that fit; else the nearest to the budget."""
    return min(timed, key=lambda f: _preference(run, f))


def _settles(run: Run, fit: Fit) -> bool:
    """Whether the budget is safely met and used up, or no more quality is to be had."""
    room, spread = _room(run, fit), fit.comparison.spread(run.budget)
    if _too_large(run, fit):
        return False
    if fit.full >= _FULL:  # more time buys nothing
        return run.used(fit.comparison) <= _MOST_USE - room / 2
    strict = max(_LEAST_USE - spread, _LOSSLESS_USE)
    least = min(_LOSSLESS_USE, AIM - 1.5 * room) if room else strict
    return least <= run.used(fit.comparison) <= _MOST_USE - room / 2


def _too_large(run: Run, fit: Fit) -> bool:
    return fit.size_bytes > (run.job.options.max_size or inf)


def _resized(losses: Losses, timed: Sequence[Fit]) -> Losses:
    """Sizes foreseen as large as the files turned out at most."""

    def larger(file: Bound) -> Bound:
        missed = max(f.size_bytes - file.of(f.assignment) for f in timed)
        return replace(file, constant=file.constant + max(0.0, missed))

    bounds = tuple(larger(b) if b.what == FILE else b for b in losses.bounds)
    return replace(losses, bounds=bounds)


def _preference(run: Run, fit: Fit) -> tuple[int, float, float]:
    used = run.used(fit.comparison)
    fits = 0 if used <= _MOST_USE else 1 if used <= 1 else 2
    fits += 3 * _too_large(run, fit)
    return fits, max(fit.loss, ENOUGH) if used <= 1 else used, abs(used - AIM + _room(run, fit))


def _untrained(job: Job, plan: Plan) -> bytes:
    graph = slim(job.graph, job.coupling, plan.keep, plan.dropped)
    give_biases(graph, damaged({n.name: n for n in job.graph.nodes}, graph))  # the repair will
    kernels = quantised_kernels(plan.kernels, {n.name for n in graph.nodes})
    if not kernels:
        return bytes(to_proto(graph).SerializeToString())
    bits = plan.weight_bits, plan.channel_bits
    encodings = placeholder_encodings(graph, kernels, job.capabilities, *bits)
    return bytes(lower(graph, kernels, encodings, job.capabilities).SerializeToString())


def quantised_kernels(kernels: Mapping[str, str], nodes: set[str]) -> dict[str, str]:
    """The nodes of a slim graph that do not run fp32."""
    return {n: k for n, k in kernels.items() if k != "fp32" and n in nodes}
