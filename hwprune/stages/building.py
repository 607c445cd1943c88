"""From a plan to the written bytes: slim, repair, recover, quantise, lower."""

from collections.abc import Callable
from dataclasses import dataclass

import onnx
import onnx_graphsurgeon as gs
from torch import fx

from hwprune.export.lower import lower
from hwprune.graph.read import to_proto
from hwprune.graph.slim import slim
from hwprune.network.run import divergence, outputs
from hwprune.network.twin import to_module
from hwprune.plan import Plan
from hwprune.progress import Progress, Stage
from hwprune.pruning.reconstruct import FINAL, Reference, Sampling
from hwprune.quantize.ptq import Quantized, quantize
from hwprune.stages.candidates import repaired
from hwprune.stages.fitting import quantised_kernels
from hwprune.stages.sources import Job
from hwprune.train.qat import qat
from hwprune.train.recover import recover


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
    trained: gs.Graph | None = None,
) -> Built:
    """Carries a plan out with everything the effort allows; `sampling` is what repair looks at.

    `trained` are other weights of all channels to begin with, where they serve the plan better.
    """
    with progress.stage("slim"):
        samples = job.calibration()
        reference = Reference(job.graph, job.coupling, samples, job.options.seed, sampling)
        graph = repaired(job.graph, plan, reference)
        if trained is not None:
            graph = _nearer(job, graph, slim(trained, job.coupling, plan.keep, plan.dropped))
    epochs = job.options.training_epochs
    if epochs:
        with progress.stage("recover", total=1) as stage:
            data, seed = job.splits.train, job.options.seed
            graph = recover(graph, job.graph, data, epochs, seed, _fraction(stage))
    kernels = quantised_kernels(plan.kernels, {node.name for node in graph.nodes})
    if not kernels:
        return Built(plan, graph, to_module(graph), to_proto(graph))
    with progress.stage("quantize") as stage:
        quantized = quantize(graph, kernels, job.capabilities, job.calibration(), plan.weight_bits)
        for concern in quantized.concerns:
            progress.note(concern)
    if epochs:
        with progress.stage("qat", total=1) as stage:
            quantized = qat(
                quantized, job.graph, job.splits.train, job.options.seed, _fraction(stage)
            )
    return Built(plan, graph, quantized.module, _lowered(job, quantized, kernels))


def _nearer(job: Job, *graphs: gs.Graph) -> gs.Graph:
    """The one whose answers are nearest to the original's on held-out inputs."""
    x = job.search_inputs()
    expected = outputs(to_module(job.graph), x)
    return min(graphs, key=lambda graph: divergence(expected, outputs(to_module(graph), x)))


def _lowered(job: Job, quantized: Quantized, kernels: dict[str, str]) -> onnx.ModelProto:
    return lower(quantized.graph, kernels, quantized.encodings, job.capabilities)


def _fraction(stage: Stage) -> Callable[[int, int, str], None]:
    """A (done, total, text) callback for a stage of total 1."""
    return lambda done, total, text: stage.update(done / max(1, total), text)
