"""The report's sections, drawn from what the stages found."""

from collections.abc import Mapping
from importlib.metadata import version

import onnx_graphsurgeon as gs

from hwprune.graph.cost import weighted_nodes
from hwprune.plan import Plan
from hwprune.report.schema import Frozen, Layer, Model, Target
from hwprune.stages.sources import Job

_PACKAGES = ("hwprune", "torch", "onnx", "onnxruntime", "brevitas", "botorch", "optuna", "numpy")


def model_section(job: Job) -> Model:
    """The network as it came in."""
    inputs = {i.name: tuple(int(d) for d in i.shape) for i in job.graph.inputs}
    return Model(job.model.name, job.model.source, inputs)


def target_section(job: Job) -> Target:
    """Where times were taken."""
    identity = job.backend.identity()
    batch = int(job.graph.inputs[0].shape[0])
    return Target(
        job.options.target,
        identity.device,
        identity.runtime,
        job.threads,
        batch,
        dict(job.backend.runtime_options),
        dict(job.backend.session_options(job.threads)),
    )


def frozen_section(job: Job) -> tuple[Frozen, ...]:
    """Every group that had to keep its width, with the reason."""
    return tuple(Frozen(g.name, g.frozen) for g in job.coupling.groups if g.frozen)


def layers_section(
    job: Job, plan: Plan, slimmed: gs.Graph, predicted_ns: Mapping[str, float]
) -> tuple[Layer, ...]:
    """Each node with weights, before and after."""
    after = {node.name: node for node in slimmed.nodes}
    return tuple(
        _layer(n, after.get(n.name), plan, predicted_ns) for n in weighted_nodes(job.graph)
    )


def _layer(
    node: gs.Node, kept: gs.Node | None, plan: Plan, predicted_ns: Mapping[str, float]
) -> Layer:
    kernel = plan.kernels.get(node.name, "fp32") if kept is not None else "fp32"
    quantised = kernel != "fp32"
    return Layer(
        node.name,
        node.op,
        _channels(node),
        _channels(kept) if kept is not None else (0, 0),
        kernel,
        plan.weight_bits.get(node.name, 32) if quantised else 32,
        plan.act_bits.get(node.name, 32) if quantised else 32,
        predicted_ns.get(node.name, 0.0) / 1e3,
    )


def _channels(node: gs.Node) -> tuple[int, int]:
    axis = 1 if node.op in ("Conv", "ConvTranspose") else -1
    return int(node.inputs[0].shape[axis]), int(node.outputs[0].shape[axis])


def versions() -> dict[str, str]:
    """Versions of everything that decides a result."""
    return {name: version(name) for name in _PACKAGES}
