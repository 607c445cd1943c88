"""What the budget turns out to be: already met, out of reach, or searched for."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hwprune.latency.estimate import Calibration
from hwprune.plan import Configuration, Plan
from hwprune.progress import Progress
from hwprune.report.schema import Search
from hwprune.search.decode import Decoder
from hwprune.search.problem import Factor, Problem, Variable
from hwprune.stages.fitting import fit_budget, time_plan
from hwprune.stages.profiling import Profile
from hwprune.stages.searching import Losses, measure_losses
from hwprune.stages.sources import Job
from hwprune.units import Budget, format_ns

_WORTH_IT = 0.97  # int8 without pruning is offered from this ratio of the original's time on


@dataclass(frozen=True, slots=True)
class Outcome:
    """What to build. `losses` is None where nothing is pruned; `reachable_ns` the table's bound."""

    plan: Plan
    calibration: Calibration
    search: Search
    losses: Losses | None
    reachable_ns: float
    infeasible: bool = False
    notes: tuple[str, ...] = ()


def decide(job: Job, profile: Profile, budget: Budget, work: Path, progress: Progress) -> Outcome:
    """Chooses the plan to build for `budget`."""
    original = profile.original.at(job.options.percentile)
    limit = budget.resolve_ns(original)
    if original <= limit:
        return _already_met(job, profile, limit, work, progress)
    problem = _time_only(profile, profile.calibration)
    fastest = Decoder(problem).fastest()
    if fastest.latency_ns > limit:
        found = _out_of_reach(job, profile, budget, fastest.assignment, work, progress)
        if found is not None:
            return found
    return _searched(job, profile, budget, fastest.latency_ns, work, progress)


def _searched(
    job: Job, profile: Profile, budget: Budget, reachable: float, work: Path, progress: Progress
) -> Outcome:
    with progress.stage("sensitivity", total=1) as stage:
        losses = measure_losses(job, profile, stage)
    fit = fit_budget(job, profile, losses, budget, profile.calibration, work, progress)
    trials = fit.search
    search = Search(job.options.search, len(trials.evaluated), tuple(trials.best_so_far))
    return Outcome(fit.plan, fit.calibration, search, losses, reachable)


def _already_met(
    job: Job, profile: Profile, limit: float, work: Path, progress: Progress
) -> Outcome:
    """Nothing needs to go; kernels that are faster at full width are still offered."""
    note = f"the original already meets {format_ns(limit)}; nothing was pruned"
    progress.note(note)
    kernels = _fastest_kernels(profile)
    plan = Plan()
    if any(k != "fp32" for k in kernels.values()):
        quantised = plain_plan(job, Configuration(kernels=kernels))
        with progress.stage("time"):
            ratio = time_plan(job, quantised, work, job.options.limits.verify_seconds).ratio
        if ratio <= _WORTH_IT:
            plan = quantised
    reachable = Decoder(_time_only(profile, profile.calibration)).fastest().latency_ns
    return Outcome(plan, profile.calibration, Search("none", 0), None, reachable, notes=(note,))


def _out_of_reach(
    job: Job,
    profile: Profile,
    budget: Budget,
    assignment: Mapping[str, int],
    work: Path,
    progress: Progress,
) -> Outcome | None:
    """The fastest network there is, if measuring it confirms that it is too slow."""
    c = profile.space.configuration(assignment)
    with progress.stage("time"):
        comparison = time_plan(job, plain_plan(job, c), work, job.options.limits.verify_seconds)
    if comparison.used(budget) <= 1:
        return None
    least = comparison.measured_ns(budget)
    note = f"the least reachable latency is {format_ns(least)}, the budget asks for {budget}"
    progress.note(note)
    with progress.stage("sensitivity", total=1) as stage:
        losses = measure_losses(job, profile, stage)
    plan = losses.plan(job, c)
    search = Search("fastest", 0)
    return Outcome(plan, profile.calibration, search, losses, least, True, (note,))


def plain_plan(job: Job, c: Configuration) -> Plan:
    """A plan that keeps the first channels of each group: good for timing only."""
    full = job.coupling.full
    keep = {g: tuple(range(w)) for g, w in c.widths.items() if w < full[g]}
    quantised = [n for n, k in c.kernels.items() if k != "fp32"]
    bits = dict.fromkeys(quantised, job.capabilities.weight_bits)
    return Plan(keep, c.dropped, dict(c.kernels), bits, dict.fromkeys(quantised, 8))


def _time_only(profile: Profile, calibration: Calibration) -> Problem:
    space = profile.space
    variables = tuple(Variable(name, size) for name, size in space.sizes.items())
    latency = tuple(Factor(f.scope, f.table) for f in profile.estimator.factors(calibration))
    return Problem(variables, latency, (), 0.0)


def _fastest_kernels(profile: Profile) -> Mapping[str, str]:
    problem = _time_only(profile, profile.calibration)
    whole = {v: s - 1 for v, s in profile.space.sizes.items() if not v.startswith("kernel:")}
    least = Problem(problem.variables, (), problem.latency, 0.0)
    found = Decoder(least).decode(1.0, fixed=whole)
    return profile.space.configuration(found.assignment).kernels
