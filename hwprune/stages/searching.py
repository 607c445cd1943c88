"""The search stage: which widths, branches and kernels keep the most quality in the time."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import inf
from time import perf_counter
from typing import Any

import numpy as np

from hwprune.latency.calibrate import Calibration
from hwprune.network.run import inputs_of, outputs
from hwprune.network.twin import to_module
from hwprune.plan import Configuration, Plan
from hwprune.progress import Stage
from hwprune.pruning.calibrate import SALIENCIES, Probe, half, rescaled
from hwprune.pruning.criteria import rank_channels
from hwprune.pruning.ranking import Ranking
from hwprune.pruning.reconstruct import QUICK, THOROUGH, Reference, Sampling
from hwprune.quantize.fewbits import bit_sensitivity
from hwprune.quantize.sensitivity import sensitivity
from hwprune.quantize.trace import traced_sensitivity
from hwprune.search.decode import Decoder
from hwprune.search.problem import Assignment, Problem
from hwprune.search.study import SearchResult, search
from hwprune.stages.candidates import Evaluator, plan_for
from hwprune.stages.checkpoints import Checkpoints
from hwprune.stages.kernels import seen_whole
from hwprune.stages.problem import build_problem
from hwprune.stages.profiling import Profile
from hwprune.stages.run import Run
from hwprune.stages.sizes import Sizes, sizes_of
from hwprune.stages.sources import Job

_FORWARD_SECONDS = 0.6  # what evaluating the untouched network on the search inputs may take
_FEWEST, _MOST = 12, 512
_FINALISTS = 4  # candidates that are repaired thoroughly before one is chosen
ENOUGH = 5e-4  # a loss (nats) below which no answer changes: there is nothing left to gain
_WARM = 4  # of the best of an earlier search
_SIZE = 0.99  # of the largest size: what is planned with
SENSITIVITIES = {"kl": bit_sensitivity, "trace": traced_sensitivity}
_REPAIR = 512  # samples for the repair of a candidate
_RANKING = 128  # samples that statistics for ranking are taken from


@dataclass(frozen=True, slots=True)
class Losses:
    """Everything the search knows about quality before it evaluates a candidate."""

    evaluator: Evaluator
    rankings: Mapping[str, Ranking]
    branches: Mapping[str, float]
    kernels: Mapping[str, Mapping[str, float]]  # node -> kernel -> loss
    bits: Mapping[str, Mapping[int, float]]  # node -> bits of its weight in the file -> loss
    sizes: Sizes | None = None  # known where they are bounded

    def plan(self, job: Job, c: Configuration) -> Plan:
        """The plan that carries a configuration out, with the channels that matter least gone."""
        return plan_for(c, job.coupling, self.rankings, job.capabilities.weight_bits)

    def problem(self, profile: Profile, calibration: Calibration) -> Problem:
        """The search problem under a calibration of the table."""
        estimator, space = profile.estimator, profile.space
        losses = self.rankings, self.branches, self.kernels, self.bits
        found = build_problem(estimator, space, calibration, *losses)
        if self.sizes is None:
            return found
        return replace(found, size=self.sizes.factors, constant_bytes=self.sizes.constant)


def known_losses(job: Job, profile: Profile, checkpoints: Checkpoints, stage: Stage) -> Losses:
    """As `measure_losses`, or what it found when this run was started."""
    sizes = None
    if job.options.max_size is not None:
        sizes = sizes_of(job.subject, profile.estimator.network, profile.space)
    kept = checkpoints.take("sensitivity")
    if kept is None:
        losses = measure_losses(job, profile, affordable_samples(job), stage)
        checkpoints.keep("sensitivity", _document(losses))
        return replace(losses, sizes=sizes)
    rankings = {
        g: Ranking(np.array(r["order"]), np.array(r["error"])) for g, r in kept["rankings"].items()
    }
    bits = {n: {int(b): loss for b, loss in found.items()} for n, found in kept["bits"].items()}
    evaluator = make_evaluator(job, kept["samples"])
    return Losses(evaluator, rankings, kept["branches"], kept["kernels"], bits, sizes)


def _document(losses: Losses) -> dict[str, Any]:
    rankings = {
        g: {"order": [int(i) for i in r.order], "error": [float(e) for e in r.error]}
        for g, r in losses.rankings.items()
    }
    return {
        "rankings": rankings,
        "branches": dict(losses.branches),
        "kernels": {n: dict(found) for n, found in losses.kernels.items()},
        "bits": {n: dict(found) for n, found in losses.bits.items()},
        "samples": len(losses.evaluator.search_x[0]),
    }


def measure_losses(job: Job, profile: Profile, count: int, stage: Stage) -> Losses:
    """Channel rankings, and the loss of dropping each branch, of each kernel, of few bits alone."""
    stage.update(0, "ranking channels")
    few, seed = job.calibration(min(count, _RANKING)), job.options.seed
    orders = rank_channels(job.graph, job.coupling, few, job.options.criterion, seed)
    evaluator = make_evaluator(job, count)
    groups, branches = _losses_of_cuts(job, orders, evaluator, stage)
    stage.update(0.75, "sensitivity to kernels")
    harm = sensitivity(job.graph, profile.space.kernels, job.capabilities, few)
    bits: Mapping[str, Mapping[int, float]] = {}
    if profile.space.weight_bits:
        stage.update(0.9, "sensitivity to bits")
        per_channel = job.capabilities.per_channel
        measure = SENSITIVITIES[job.options.sensitivity]
        x = job.calibration(min(count, _REPAIR))
        bits = measure(job.graph, profile.space.weight_bits, per_channel, x, seed)
    return Losses(evaluator, rescaled(orders, groups), branches, harm, bits)


def _losses_of_cuts(
    job: Job, orders: Mapping[str, Ranking], evaluator: Evaluator, stage: Stage
) -> tuple[dict[Probe, float], dict[str, float]]:
    """What it costs to halve groups, alone or together, and to drop each branch."""
    probes, branches = SALIENCIES[job.options.saliency](orders), job.coupling.branches
    plans = [Plan(keep={g: half(orders[g]) for g in probe}) for probe in probes]
    plans += [Plan(dropped=frozenset([branch.name])) for branch in branches]
    names = [f"half of {p[0]}" if len(p) == 1 else "half of everything" for p in probes]
    names += [branch.name for branch in branches]
    found: dict[int, float] = {}
    for i, loss in evaluator.losses(plans):
        found[i] = loss
        stage.update(0.15 + 0.6 * len(found) / len(plans), f"without {names[i]}")
    by_probe = {p: found[i] for i, p in enumerate(probes)}
    return by_probe, {b.name: found[len(probes) + i] for i, b in enumerate(branches)}


def affordable_samples(job: Job) -> int:
    """How many samples an evaluation may use, from the time a few take."""
    x = job.search_inputs(8)
    module = to_module(job.graph)
    outputs(module, inputs_of(x, 1))
    start = perf_counter()
    outputs(module, x)
    each = (perf_counter() - start) / len(x[0])
    return int(min(_MOST, max(_FEWEST, _FORWARD_SECONDS / each)))


def make_evaluator(job: Job, count: int, sampling: Sampling = QUICK) -> Evaluator:
    """The evaluator on `count` held-out samples, with a repair that looks at `sampling`."""
    x = job.search_inputs(count)
    samples = job.calibration(min(count, _REPAIR)) if sampling is QUICK else job.calibration()
    reference = Reference(job.graph, job.coupling, samples, job.options.seed, sampling)
    before = outputs(to_module(job.graph), x)
    per_channel = job.capabilities.per_channel
    return Evaluator(job.graph, job.coupling, reference, x, before, per_channel)


def run_search(
    run: Run,
    losses: Losses,
    calibration: Calibration,
    budget_ns: float,
    before: SearchResult | None,
    stage: Stage,
) -> SearchResult:
    """Searches under `budget_ns`.

    After an earlier search `before`, under another calibration, it starts from the best of that
    and spends a quarter of the effort; losses are known by assignment and not measured again.
    """
    options = run.job.options
    evaluations = options.evaluations or options.limits.evaluations
    share = 1.0 if before is None else 0.25
    found = sorted(before.evaluated, key=lambda e: e.loss)[:_WARM] if before else []

    def report(done: int, total: int, best: float) -> None:
        stage.update(done / max(1, total), f"candidate {done} of {total}, best loss {best:.4f}")

    return search(
        planned_problem(run, losses, calibration, budget_ns),
        budget_ns,
        candidate_loss(run.job, run.profile, losses),
        options.search,
        max(1, round(evaluations * share)),
        options.seed,
        run.work / "trials.db",
        report,
        options.limits.search_seconds * share,
        [e.multipliers for e in found if e.multipliers],
        ENOUGH,
        most_bytes(run.job),
    )


def planned_problem(
    run: Run, losses: Losses, calibration: Calibration, budget_ns: float
) -> Problem:
    """The search problem, with kernels priced by whole networks near what fits the budget.

    Raises InfeasibleError if nothing does.
    """
    problem = losses.problem(run.profile, calibration)
    near = Decoder(problem).decode(budget_ns, most_bytes=most_bytes(run.job)).assignment
    return seen_whole(run.profile, calibration, problem, near)


def most_bytes(job: Job) -> float:
    """The size that the decoder may plan with."""
    return inf if job.options.max_size is None else _SIZE * job.options.max_size


def finalists(run: Run, losses: Losses, result: SearchResult) -> list[tuple[Assignment, float]]:
    """The best few and the plain knapsack by their loss after a thorough repair, least first.

    The quick repair of a search sees few samples, and overfits some candidates more than others.
    """
    ranked = sorted(result.evaluated, key=lambda e: e.loss)[:_FINALISTS]
    if result.evaluated[0] not in ranked:
        ranked.append(result.evaluated[0])
    if len(ranked) == 1 or result.best.loss <= ENOUGH:
        return [(result.best.assignment, result.best.loss)]
    count = 4 * len(losses.evaluator.search_x[0])
    thorough = replace(losses, evaluator=make_evaluator(run.job, count, THOROUGH))
    judge = candidate_loss(run.job, run.profile, thorough)
    judged = [(e.assignment, judge(e.assignment)) for e in ranked]
    return sorted(judged, key=lambda found: found[1])


def candidate_loss(job: Job, profile: Profile, losses: Losses) -> Callable[[Assignment], float]:
    """The objective: measured divergence of the repaired network, plus what its kernels add."""

    def evaluate(assignment: Assignment) -> float:
        c = profile.configuration(assignment)
        plan = losses.plan(job, c)
        rounding = sum(losses.kernels.get(n, {}).get(k, 0.0) for n, k in c.kernels.items())
        return losses.evaluator.loss(plan) + rounding

    return evaluate
