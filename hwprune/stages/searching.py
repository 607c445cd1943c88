"""The search stage: which widths, branches and kernels keep the most quality in the time."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np

from hwprune.latency.estimate import Calibration
from hwprune.network.run import outputs
from hwprune.network.twin import to_module
from hwprune.plan import Configuration, Plan
from hwprune.progress import Stage
from hwprune.prune.calibrate import calibrate
from hwprune.prune.criteria import Ranking, rank_channels
from hwprune.prune.reconstruct import THOROUGH, Reference
from hwprune.quantize.sensitivity import sensitivity
from hwprune.search.problem import Assignment, Problem
from hwprune.search.strategy import Evaluated
from hwprune.search.study import SearchResult, search
from hwprune.stages.candidates import Evaluator, plan_for
from hwprune.stages.checkpoints import Checkpoints
from hwprune.stages.problem import build_problem
from hwprune.stages.profiling import Profile
from hwprune.stages.run import Run
from hwprune.stages.sources import Job

_FORWARD_SECONDS = 0.6  # what evaluating the untouched network on the search inputs may take
_FEWEST, _MOST = 12, 512
_FINALISTS = 4  # candidates that are repaired thoroughly before one is chosen
_ENOUGH = 5e-4  # a loss (nats) below which no answer changes: there is nothing left to gain
_WARM = 4  # of the best of an earlier search
_REPAIR = 256  # samples for the repair of a candidate
_RANKING = 128  # samples that statistics for ranking are taken from


@dataclass(frozen=True, slots=True)
class Losses:
    """Everything the search knows about quality before it evaluates a candidate."""

    evaluator: Evaluator
    rankings: Mapping[str, Ranking]
    branches: Mapping[str, float]
    kernels: Mapping[str, float]

    def plan(self, job: Job, c: Configuration) -> Plan:
        """The plan that carries a configuration out, with the channels that matter least gone."""
        return plan_for(c, job.coupling, self.rankings, job.capabilities.weight_bits)

    def problem(self, profile: Profile, calibration: Calibration) -> Problem:
        """The search problem under a calibration of the table."""
        return build_problem(
            profile.estimator, calibration, self.rankings, self.branches, self.kernels
        )


def known_losses(job: Job, profile: Profile, checkpoints: Checkpoints, stage: Stage) -> Losses:
    """As `measure_losses`, or what it found when this run was started."""
    kept = checkpoints.take("sensitivity")
    if kept is None:
        losses = measure_losses(job, profile, affordable_samples(job), stage)
        checkpoints.keep("sensitivity", _document(losses))
        return losses
    rankings = {
        g: Ranking(np.array(r["order"]), np.array(r["error"])) for g, r in kept["rankings"].items()
    }
    evaluator = make_evaluator(job, rankings, kept["samples"])
    return Losses(evaluator, rankings, kept["branches"], kept["kernels"])


def _document(losses: Losses) -> dict[str, Any]:
    rankings = {
        g: {"order": [int(i) for i in r.order], "error": [float(e) for e in r.error]}
        for g, r in losses.rankings.items()
    }
    return {
        "rankings": rankings,
        "branches": dict(losses.branches),
        "kernels": dict(losses.kernels),
        "samples": len(losses.evaluator.search_x),
    }


def measure_losses(job: Job, profile: Profile, count: int, stage: Stage) -> Losses:
    """Channel rankings, and the loss of dropping each branch and quantising each node alone."""
    stage.update(0, "ranking channels")
    few = job.calibration(min(count, _RANKING))
    options = job.options
    orders = rank_channels(job.graph, job.coupling, few, options.criterion, options.seed)
    evaluator = make_evaluator(job, orders, count)
    stage.update(0.3, "cutting each group by half")
    rankings = calibrate(job.graph, orders, evaluator.reference, evaluator.search_x)
    evaluator = replace(evaluator, rankings=rankings)
    branches = {}
    for i, branch in enumerate(job.coupling.branches):
        stage.update(0.6 + 0.2 * i / len(job.coupling.branches), f"without {branch.name}")
        branches[branch.name] = evaluator.loss(Plan(dropped=frozenset([branch.name])))
    stage.update(0.8, "sensitivity to int8")
    kernels = dict.fromkeys(profile.space.kernels, "int8")
    harm = sensitivity(job.graph, kernels, job.capabilities, few[:_FEWEST])
    return Losses(evaluator, rankings, branches, harm)


def affordable_samples(job: Job) -> int:
    """How many samples an evaluation may use, from the time a few take."""
    x = job.search_inputs(16)
    module = to_module(job.graph)
    outputs(module, x)
    start = perf_counter()
    outputs(module, x)
    each = (perf_counter() - start) / len(x)
    return int(min(_MOST, max(_FEWEST, _FORWARD_SECONDS / each)))


def make_evaluator(job: Job, rankings: Mapping[str, Ranking], count: int) -> Evaluator:
    """The evaluator on `count` held-out samples; fewer serve its repair."""
    x = job.search_inputs(count)
    samples = job.calibration(min(count, _REPAIR))
    reference = Reference(job.graph, job.coupling, samples, job.options.seed)
    before = outputs(to_module(job.graph), x)
    return Evaluator(job.graph, job.coupling, rankings, reference, x, before)


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
        losses.problem(run.profile, calibration),
        budget_ns,
        candidate_loss(run.job, run.profile, losses),
        options.search,
        max(1, round(evaluations * share)),
        options.seed,
        run.work / "trials.db",
        report,
        options.limits.search_seconds * share,
        [e.multipliers for e in found if e.multipliers],
        _ENOUGH,
    )


def choose_finalist(run: Run, losses: Losses, result: SearchResult) -> Evaluated:
    """The best of the best few and of the plain knapsack, each repaired as the result will be.

    The quick repair of a search sees few samples, and overfits some candidates more than others.
    """
    ranked = sorted(result.evaluated, key=lambda e: e.loss)[:_FINALISTS]
    finalists = ranked if result.evaluated[0] in ranked else [*ranked, result.evaluated[0]]
    if len(finalists) == 1 or result.best.loss <= _ENOUGH:
        return result.best
    job, samples = run.job, run.job.calibration()
    thorough = Reference(job.graph, job.coupling, samples, job.options.seed, THOROUGH)
    evaluator = replace(losses.evaluator, reference=thorough)
    judge = candidate_loss(job, run.profile, replace(losses, evaluator=evaluator))
    return min(finalists, key=lambda e: judge(e.assignment))


def candidate_loss(job: Job, profile: Profile, losses: Losses) -> Callable[[Assignment], float]:
    """The objective: measured divergence of the repaired network, plus what int8 adds."""

    def evaluate(assignment: Assignment) -> float:
        c = profile.space.configuration(assignment)
        plan = losses.plan(job, c)
        quantised = sum(losses.kernels.get(n, 0.0) for n, k in c.kernels.items() if k == "int8")
        return losses.evaluator.loss(plan) + quantised

    return evaluate
