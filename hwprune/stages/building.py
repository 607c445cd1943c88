"""From a plan to the written bytes: slim, repair, recover, quantise, lower."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import onnx
import onnx_graphsurgeon as gs
from torch import fx

from hwprune.export.lower import lower
from hwprune.graph.read import to_proto
from hwprune.graph.slim import slim
from hwprune.network.run import divergence, outputs
from hwprune.network.twin import to_module
from hwprune.plan import Plan
from hwprune.progress import Progress, in_fractions
from hwprune.pruning.reconstruct import FINAL, Reference, Sampling
from hwprune.quantize.ptq import Quantized, quantize
from hwprune.schedules.shrink import shrink
from hwprune.stages.candidates import repaired
from hwprune.stages.fitting import quantised_kernels
from hwprune.stages.sources import Job
from hwprune.stages.training import Training, training_of
from hwprune.train.qat import qat
from hwprune.train.recipe import Recipe
from hwprune.train.recover import recover
from hwprune.train.snapshots import Snapshots

Network = TypeVar("Network", gs.Graph, Quantized)


@dataclass(frozen=True, slots=True)
class Built:
    """The result: the slim fp32 graph, the torch twin of what is deployed, and the ONNX model."""

    plan: Plan
    graph: gs.Graph
    twin: fx.GraphModule
    model: onnx.ModelProto


def build(
    job: Job,
    plan: Plan,
    progress: Progress,
    sampling: Sampling = FINAL,
    folder: Path | None = None,
    trained: gs.Graph | None = None,
) -> Built:
    """Carries a plan out with everything the effort allows.

    Args:
        job: What it is a plan for.
        plan: Where a schedule trains, the channels that stay are its choice in the end.
        progress: Who watches.
        sampling: What repair looks at.
        folder: Of the run, for trainings to go on after the process was killed.
        trained: Other weights of all channels to begin with, where they serve the plan better.
    """
    training = training_of(job.options, folder)
    if training is not None and training.schedule is not None and plan.keep:
        graph, plan = _trained_away(job, plan, training, progress)
    else:
        graph = _cut(job, plan, progress, sampling, trained)
    if training is not None:
        kept = training.snapshots("recover", plan)
        graph = trained_on(recover, graph, job, training.recovery, kept, progress)
    kernels = quantised_kernels(plan.kernels, {node.name for node in graph.nodes})
    if not kernels:
        return Built(plan, graph, to_module(graph), to_proto(graph))
    with progress.stage("quantize"):
        quantized = quantize(
            graph,
            kernels,
            job.capabilities,
            job.calibration(),
            plan.weight_bits,
            latent=training is not None,
        )
        for concern in quantized.concerns:
            progress.note(concern)
    if training is not None:
        kept = training.snapshots("qat", plan)
        quantized = trained_on(qat, quantized, job, training.recipe, kept, progress)
    return Built(plan, graph, quantized.module, _lowered(job, quantized, kernels))


def trained_on(
    how: Callable[..., Network],
    network: Network,
    job: Job,
    recipe: Recipe,
    snapshots: Snapshots | None,
    progress: Progress,
) -> Network:
    """What `recover` or `qat` makes of a network, with the original as its teacher."""
    with progress.stage(how.__name__, total=1) as stage:
        return how(
            network,
            job.graph,
            job.splits.train,
            recipe,
            job.options.seed,
            in_fractions(stage),
            snapshots,
        )


def _cut(
    job: Job, plan: Plan, progress: Progress, sampling: Sampling, trained: gs.Graph | None
) -> gs.Graph:
    with progress.stage("slim"):
        samples = job.calibration()
        reference = Reference(job.graph, job.coupling, samples, job.options.seed, sampling)
        graph = repaired(job.graph, plan, reference)
        if trained is None:
            return graph
        return _nearer(job, graph, slim(trained, job.coupling, plan.keep, plan.dropped))


def _nearer(job: Job, *graphs: gs.Graph) -> gs.Graph:
    """The one whose answers are nearest to the original's on held-out inputs."""
    x = job.search_inputs()
    expected = outputs(to_module(job.graph), x)
    return min(graphs, key=lambda graph: divergence(expected, outputs(to_module(graph), x)))


def _trained_away(
    job: Job, plan: Plan, training: Training, progress: Progress
) -> tuple[gs.Graph, Plan]:
    assert training.schedule is not None
    with progress.stage("shrink", total=1) as stage:
        shrunk = shrink(
            job.graph,
            job.coupling,
            plan,
            training.schedule,
            job.splits.train,
            training.recipe,
            job.options.seed,
            job.calibration(),
            in_fractions(stage),
            training.snapshots("shrink", plan),
            _on_integers(job, plan) if training.schedule.integers else None,
        )
    return shrunk.graph, shrunk.plan


def _on_integers(job: Job, plan: Plan) -> Quantized:
    """The original without the plan's branches, quantised as the plan says."""
    whole = slim(job.graph, job.coupling, {}, plan.dropped)
    kernels = quantised_kernels(plan.kernels, {node.name for node in whole.nodes})
    samples, bits = job.calibration(), plan.weight_bits
    return quantize(whole, kernels, job.capabilities, samples, bits, latent=True)


def _lowered(job: Job, quantized: Quantized, kernels: dict[str, str]) -> onnx.ModelProto:
    return lower(quantized.graph, kernels, quantized.encodings, job.capabilities)
