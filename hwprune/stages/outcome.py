"""What the budget turns out to be: already met, out of reach, or searched for."""

from dataclasses import dataclass, replace
from math import isfinite

import onnx_graphsurgeon as gs

from hwprune.errors import InfeasibleError
from hwprune.latency.calibrate import Calibration
from hwprune.plan import Configuration, Plan
from hwprune.pruning.reconstruct import FINAL, LIGHT, Sampling
from hwprune.registry import TRAINED
from hwprune.report.schema import Alternative, Search, Trial
from hwprune.search.decode import Decoded, Decoder
from hwprune.stages.candidates import plan_for
from hwprune.stages.fitting import (
    Fit,
    chosen,
    corrected,
    first_look,
    fit_budget,
    one_round,
    planned_ns,
    time_plan,
)
from hwprune.stages.kernels import fastest_kernels, time_only
from hwprune.stages.losses import Losses, known_losses
from hwprune.stages.memory import peak_bytes
from hwprune.stages.nearest import lost_untrained, with_wider_bounds
from hwprune.stages.profiling import Profile
from hwprune.stages.ratios import with_trained_ratios
from hwprune.stages.run import Run
from hwprune.stages.sources import Job, classes
from hwprune.stages.timing import PROCESSES, Comparison
from hwprune.units import format_ns

_WORTH_IT = 0.97  # int8 without pruning is offered from this ratio of the original's time on


@dataclass(frozen=True, slots=True)
class Outcome:
    """What to build; `reachable_ns` is the least time. A search leaves its `losses` and `fit`."""

    plan: Plan
    calibration: Calibration
    search: Search
    reachable_ns: float
    infeasible: bool = False
    notes: tuple[str, ...] = ()
    losses: Losses | None = None
    fit: Fit | None = None
    nearest: tuple[Alternative, ...] = ()

    @property
    def lossless(self) -> bool:
        """Whether the search found a network that loses nothing to speak of."""
        return self.fit is not None and self.fit.lossless

    @property
    def trained(self) -> gs.Graph | None:
        """Weights, of all channels, that a search by training left."""
        return None if self.losses is None else self.losses.trained

    @property
    def sampling(self) -> Sampling:
        """What the last repair looks at: little where nothing is lost anyway."""
        return LIGHT if self.lossless else FINAL


def decide(run: Run) -> Outcome:
    """Chooses the plan to build for the budget."""
    fastest = Decoder(time_only(run.profile)).fastest()
    if run.profile.original.p50 <= run.limit_ns and _is_within_bounds(run):
        return _already_met(run, fastest.latency_ns)
    calibration = None
    if fastest.latency_ns > planned_ns(run):  # the table may be wrong by a little
        extreme, calibration = _fastest(run)
        if extreme.infeasible:
            return extreme
    losses = _losses(run)
    try:
        return _found(run, *_fitted(run, losses, calibration), fastest.latency_ns)
    except InfeasibleError as e:
        wider = with_wider_bounds(run, losses, calibration or run.profile.calibration)
        if wider is None:
            return _fastest(run)[0]
        run.progress.note(f"{e}; what comes nearest is looked for")
    try:
        found = _fitted(run, wider[0], calibration)
    except InfeasibleError:
        return _fastest(run)[0]
    return replace(_found(run, *found, fastest.latency_ns), nearest=wider[1])


def _fitted(run: Run, losses: Losses, calibration: Calibration | None) -> tuple[Losses, Fit]:
    """What fits the budget, and the losses it was found by; a search by training trains first."""
    if run.job.options.search in TRAINED:
        calibration = calibration or first_look(run, losses)
        losses = with_trained_ratios(run, losses, calibration, planned_ns(run))
    return losses, fit_budget(run, losses, calibration)


def _is_within_bounds(run: Run) -> bool:
    """Whether the file as it came keeps to the bounds beside the time."""
    options, original = run.job.options, run.work / "original.onnx"
    small = options.max_size is None or original.stat().st_size <= options.max_size
    most = options.max_memory
    return small and (most is None or peak_bytes(run.job.subject, run.job.graph, {}) <= most)


def tighten(run: Run, outcome: Outcome, comparison: Comparison) -> Outcome:
    """The outcome of another search, after the finished file turned out as `comparison` says.

    The same outcome where there is nothing to search, or nothing faster is found.
    """
    losses, fit = outcome.losses, outcome.fit
    if losses is None or fit is None:
        return outcome
    seen_ns = comparison.used(run.budget) * run.limit_ns
    calibration = corrected(fit.calibration, fit.predicted_ns, seen_ns)
    try:
        again = one_round(run, losses, calibration, [fit])
    except InfeasibleError:
        return outcome
    return _found(run, losses, chosen(run, again), outcome.reachable_ns) if again else outcome


def _found(run: Run, losses: Losses, fit: Fit, reachable_ns: float) -> Outcome:
    trials = fit.search
    known = tuple(filter(isfinite, trials.best_so_far))  # steps on the way to the budget are not
    tried = tuple(Trial(e.latency_ns / 1e6, e.loss) for e in trials.evaluated)
    search = Search(run.job.options.search, len(trials.evaluated), known, tried)
    done = (
        f"{len(trials.evaluated)} evaluations: with more time, or in another run, it may find more"
    )
    notes = (f"the clock ended the search after {done}",) if trials.late else ()
    return Outcome(
        fit.plan, fit.calibration, search, reachable_ns, notes=notes, losses=losses, fit=fit
    )


def _losses(run: Run) -> Losses:
    with run.progress.stage("sensitivity", total=1) as stage:
        return known_losses(run.job, run.profile, run.checkpoints, stage)


def _already_met(run: Run, reachable_ns: float) -> Outcome:
    """Nothing needs to go; kernels that are faster are still offered, but for weights of few bits:
    nobody has measured what these would lose.
    """
    note = f"the original already meets {run.budget}; nothing was pruned"
    run.progress.note(note)
    kernels = fastest_kernels(run.profile)
    plan = Plan()
    if any(k != "fp32" for k in kernels.values()):
        quantised = plain_plan(run.job, Configuration(kernels=kernels))
        if _is_worth_it(run, quantised) and _keeps_drop(run, quantised):
            plan = quantised
    search = Search("none", 0)
    return Outcome(plan, run.profile.calibration, search, reachable_ns, notes=(note,))


def _keeps_drop(run: Run, plan: Plan) -> bool:
    """Whether a plan that nobody needs keeps --max-drop, where that can be told."""
    most, job = run.job.options.max_drop, run.job
    if most is None or not job.known or classes(job.graph) is None:
        return True
    return lost_untrained(run, plan) <= most


def _is_worth_it(run: Run, plan: Plan) -> bool:
    """Whether a plan that loses little is faster; where processes disagree, more are asked."""
    for processes in (PROCESSES, 4 * PROCESSES):
        found = time_plan(run, plan, processes)
        if max(found.ratios) <= _WORTH_IT or min(found.ratios) > _WORTH_IT:
            break
    return found.ratio <= _WORTH_IT


def _fastest(run: Run) -> tuple[Outcome, Calibration]:
    """The fastest network there is, and what timing it says about the table.

    Only measuring tells whether the budget is out of reach.
    """
    timed: list[tuple[float, Decoded, Comparison]] = []
    for extreme in _extremes(run.profile):
        c = run.profile.configuration(extreme.assignment)
        comparison = time_plan(run, plain_plan(run.job, c))
        timed.append((run.used(comparison), extreme, comparison))
        if run.used(comparison) <= 1:
            break
    used, fastest, comparison = min(timed, key=lambda found: found[0])
    least = comparison.measured_ns(run.budget)
    notes: tuple[str, ...] = ()
    if used > 1:
        notes = (f"the least reachable latency is {format_ns(least)}, asked for: {run.budget}",)
        run.progress.note(notes[0])
    plan = _losses(run).plan(run.job, run.profile.configuration(fastest.assignment))
    calibration = run.profile.calibration
    seen = corrected(calibration, fastest.latency_ns, run.expected_ns(comparison))
    return Outcome(plan, calibration, Search("fastest", 0), least, used > 1, notes), seen


def _extremes(profile: Profile) -> list[Decoded]:
    """The fastest network by the table, the fastest without integers, and the narrowest.

    Where kernels take a few microseconds each, the table does not know for sure which it is.
    """
    decoder, variables = Decoder(time_only(profile)), profile.space.sizes
    fp32 = {v: 0 for v in variables if v.startswith("kernel:")}
    narrowest = {v: 0 for v in variables if not v.startswith("kernel:")}
    found = [decoder.fastest(), decoder.fastest(fp32), decoder.fastest(narrowest)]
    return [d for i, d in enumerate(found) if d.assignment not in [e.assignment for e in found[:i]]]


def plain_plan(job: Job, c: Configuration) -> Plan:
    """A plan that is good for timing only."""
    return plan_for(c, job.coupling, {}, job.capabilities.weight_bits)
