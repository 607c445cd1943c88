"""The sensitivity stage: what cuts, kernels and few bits lose, each alone, before any search."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from hwprune.differentiable.allocation import Aim, toward
from hwprune.graph.cost import macs
from hwprune.graph.slim import slim
from hwprune.latency.calibrate import Calibration
from hwprune.network.run import outputs
from hwprune.network.twin import to_module
from hwprune.plan import Configuration, Plan
from hwprune.progress import Stage
from hwprune.pruning.calibrate import SALIENCIES, Probe, half, rescaled
from hwprune.pruning.criteria import rank_channels
from hwprune.pruning.ranking import Ranking
from hwprune.pruning.reconstruct import QUICK, Reference, Sampling
from hwprune.quantize.fewbits import bit_sensitivity
from hwprune.quantize.sensitivity import sensitivity
from hwprune.quantize.trace import traced_sensitivity
from hwprune.search.problem import Assignment, Bound, Problem
from hwprune.stages.candidates import Evaluator, plan_for
from hwprune.stages.checkpoints import Checkpoints
from hwprune.stages.memo import graph_digest
from hwprune.stages.memory import Activations
from hwprune.stages.problem import build_problem
from hwprune.stages.profiling import Profile
from hwprune.stages.sizes import sizes_of
from hwprune.stages.sources import Job

_FEWEST, _MOST = 12, 512
_FORWARD_SECONDS = 1.2  # of the untouched network on all search inputs, about
_MACS_PER_SECOND, _VALUES_PER_SECOND = 37e9, 1.2e9  # of two cores, seen for seven networks
SENSITIVITIES = {"kl": bit_sensitivity, "trace": traced_sensitivity}
_REPAIR = 512  # samples for the repair of a candidate
_RANKING = 128  # samples that statistics for ranking are taken from
_SIZE = 0.99  # of the largest file: what is planned with


@dataclass(frozen=True, slots=True)
class Losses:
    """Everything the search knows about quality before it evaluates a candidate."""

    evaluator: Evaluator
    rankings: Mapping[str, Ranking]
    branches: Mapping[str, float]
    kernels: Mapping[str, Mapping[str, float]]  # node -> kernel -> loss
    bits: Mapping[str, Mapping[int, float]]  # node -> bits of its weight in the file -> loss
    bounds: tuple[Bound, ...] = ()  # what was asked for beside the time
    aim: Aim | None = None  # what a training found best
    trained: gs.Graph | None = None  # weights that it left, all channels

    def plan(self, job: Job, c: Configuration) -> Plan:
        """The plan that carries a configuration out, with the channels that matter least gone."""
        return plan_for(c, job.coupling, self.rankings, job.capabilities.weight_bits)

    def document(self) -> dict[str, Any]:
        """As JSON, but for the bounds, which are quickly known."""
        rankings = {
            g: {"order": [int(i) for i in r.order], "error": [float(e) for e in r.error]}
            for g, r in self.rankings.items()
        }
        return {
            "rankings": rankings,
            "branches": dict(self.branches),
            "kernels": {n: dict(found) for n, found in self.kernels.items()},
            "bits": {n: dict(found) for n, found in self.bits.items()},
        }

    def problem(self, profile: Profile, calibration: Calibration) -> Problem:
        """The search problem under a calibration of the table."""
        estimator, space = profile.estimator, profile.space
        losses = self.rankings, self.branches, self.kernels, self.bits
        found = build_problem(estimator, space, calibration, *losses)
        found = replace(found, bounds=self.bounds)
        return found if self.aim is None else toward(found, space, self.aim)

    def loss(self, job: Job, plan: Plan) -> float:
        """Measured divergence of the better of the repaired and the trained network."""
        repaired = self.evaluator.loss(plan)
        if self.trained is None:
            return repaired
        slimmed = slim(self.trained, job.coupling, plan.keep, plan.dropped)
        return min(repaired, self.evaluator.divergence(slimmed))


def known_losses(job: Job, profile: Profile, checkpoints: Checkpoints, stage: Stage) -> Losses:
    """As `measure_losses`, or what it found when this run was started."""
    kept = checkpoints.take("sensitivity")
    if kept is None:
        losses = measure_losses(job, profile, affordable_samples(job), stage)
        checkpoints.keep("sensitivity", losses.document())
    else:
        losses = losses_from(job, kept)
    return replace(losses, bounds=bounds_of(job, profile))


def bounds_of(job: Job, profile: Profile) -> tuple[Bound, ...]:
    """What --max-size and --max-memory come to."""
    network, space = profile.estimator.network, profile.space
    found: tuple[Bound, ...] = ()
    if job.options.max_size is not None:
        file = sizes_of(job.subject, network, space)
        found += (file.at_most(_SIZE * job.options.max_size),)
    if job.options.max_memory is not None:
        found += Activations(job.graph, network).bounds(space, job.options.max_memory)
    return found


def losses_from(job: Job, document: Mapping[str, Any]) -> Losses:
    """Reads `Losses.document` back."""
    rankings = {
        g: Ranking(np.array(r["order"]), np.array(r["error"]))
        for g, r in document["rankings"].items()
    }
    bits = {n: {int(b): loss for b, loss in found.items()} for n, found in document["bits"].items()}
    evaluator = make_evaluator(job, affordable_samples(job))
    return Losses(evaluator, rankings, document["branches"], document["kernels"], bits)


def measure_losses(job: Job, profile: Profile, count: int, stage: Stage) -> Losses:
    """Channel rankings, and the loss of dropping each branch, of each kernel, of few bits alone."""
    stage.update(0, "ranking channels")
    few, seed = job.calibration(min(count, _RANKING)), job.options.seed
    criterion, ranked = job.options.criterion, min(count, _RANKING)
    orders = job.memo.of(
        ("ranking", graph_digest(job.graph), criterion, ranked, seed),
        lambda: rank_channels(job.graph, job.coupling, few, criterion, seed),
    )
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
    """How many samples an evaluation may use: by what a pass computes and writes, not by the
    clock, so that another run of the same search does the same.
    """
    batch = int(job.graph.inputs[0].shape[0])
    values = sum(prod(t.shape) for node in job.graph.nodes for t in node.outputs)
    each = (macs(job.graph) / _MACS_PER_SECOND + values / _VALUES_PER_SECOND) / batch
    return int(min(_MOST, max(_FEWEST, _FORWARD_SECONDS / each)))


def make_evaluator(job: Job, count: int, sampling: Sampling = QUICK) -> Evaluator:
    """The evaluator on `count` held-out samples, with a repair that looks at `sampling`."""
    x = job.search_inputs(count)
    samples = job.calibration(min(count, _REPAIR)) if sampling is QUICK else job.calibration()
    reference = Reference(job.graph, job.coupling, samples, job.options.seed, sampling)
    before = outputs(to_module(job.graph), x)
    per_channel = job.capabilities.per_channel
    same = graph_digest(job.graph), count, sampling, job.options.seed, per_channel
    return Evaluator(job.graph, job.coupling, reference, x, before, per_channel, job.memo, same)


def candidate_loss(
    job: Job, losses: Losses, configuration: Callable[[Assignment], Configuration]
) -> Callable[[Assignment], float]:
    """The objective: measured divergence of the repaired network, plus what its kernels add."""

    def evaluate(assignment: Assignment) -> float:
        c = configuration(assignment)
        plan = losses.plan(job, c)
        rounding = sum(losses.kernels.get(n, {}).get(k, 0.0) for n, k in c.kernels.items())
        return losses.loss(job, plan) + rounding

    return evaluate
