"""The methods that are compared: how each comes to a slim network, before all are trained alike."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import onnx_graphsurgeon as gs
import torch
from torch import nn

from hwprune.differentiable import joint
from hwprune.differentiable.allocation import Allocation
from hwprune.differentiable.choosing import JointOptions
from hwprune.differentiable.dsa import learn_ratios
from hwprune.export.lower import lower
from hwprune.export.placeholder import placeholder_encodings
from hwprune.frontend.module import graph_from_module
from hwprune.graph.cost import weighted_nodes
from hwprune.graph.slim import slim
from hwprune.latency.space import SearchSpace
from hwprune.network.twin import to_module
from hwprune.plan import Plan
from hwprune.pruning.criteria import rank_channels
from hwprune.pruning.reconstruct import FINAL, Reference
from hwprune.quantize.ptq import Quantized
from hwprune.report.jsonio import from_json
from hwprune.schedules.catalogue import SCHEDULES, schedule_of
from hwprune.schedules.shrink import shrink
from hwprune.search.documents import task_from_json
from hwprune.stages.candidates import repaired
from hwprune.stages.fitting import quantised_kernels
from hwprune.stages.jointly import legal_widths
from hwprune.stages.sources import Job
from hwprune.train.recipe import Recipe

Cut = tuple[gs.Graph, Plan, Recipe]  # the slim network, its plan, and the training that is left
Cutter = Callable[[Path, Job, Plan, Recipe], Cut]


def ranked(job: Job, plan: Plan, criterion: str) -> Plan:
    """The plan with as many channels of each group, but those that a criterion ranks highest."""
    x, seed = job.calibration(512), job.options.seed
    rankings = rank_channels(job.graph, job.coupling, x, criterion, seed)
    return replace(plan, keep={g: rankings[g].kept(len(k)) for g, k in plan.keep.items()})


def at_once(criterion: str, repairs: bool) -> Cutter:
    """Everything goes before the training."""

    def cut(_work: Path, job: Job, plan: Plan, recipe: Recipe) -> Cut:
        plan = ranked(job, plan, criterion)
        if not repairs:
            return slim(job.graph, job.coupling, plan.keep, plan.dropped), plan, recipe
        seed = job.options.seed
        reference = Reference(job.graph, job.coupling, job.calibration(), seed, FINAL)
        return repaired(job.graph, plan, reference), plan, recipe

    return cut


def scheduled(name: str) -> Cutter:
    """Channels go while the network is trained."""

    def cut(_work: Path, job: Job, plan: Plan, recipe: Recipe) -> Cut:
        schedule = schedule_of(name)
        assert schedule is not None
        data, seed = job.splits.train, job.options.seed
        found = shrink(
            job.graph, job.coupling, plan, schedule, data, recipe, seed, job.calibration()
        )
        return found.graph, found.plan, recipe.part(1 - schedule.share)

    return cut


def by_dsa(work: Path, job: Job, plan: Plan, recipe: Recipe) -> Cut:
    """Widths by training: half of it for them, half for recovery."""
    document = json.loads((work / "allocation.json").read_text())
    task, _, _ = task_from_json(document["task"])
    space = from_json(SearchSpace, json.dumps(document["space"]))
    allocation = Allocation(space, task.problem, task.budget_ns, document["fixed"])
    x, seed, half = job.calibration(512), job.options.seed, recipe.part(0.5)
    rankings = rank_channels(job.graph, job.coupling, x, "obs", seed)
    found = learn_ratios(
        job.graph, job.coupling, allocation, job.splits.train, half, seed, None, rankings
    )
    keep = found.kept(allocation.widths(found.ratios))
    keep = {g: k for g, k in keep.items() if len(k) < job.coupling.full[g]}
    plan = replace(plan, keep=keep)
    return slim(found.graph, job.coupling, keep, plan.dropped), plan, half


def by_torch_pruning(_work: Path, job: Job, plan: Plan, recipe: Recipe) -> Cut:
    """Cut by Torch-Pruning's magnitude pruner, to the widths of the plan."""
    import torch_pruning as tp

    module = to_module(job.graph)
    for node in module.graph.nodes:  # a reshape says how many channels there are; flatten does not
        if getattr(node.target, "__name__", "") == "reshape" and len(node.kwargs["after"]) == 2:
            node.target, node.args, node.kwargs = torch.flatten, (node.args[0], 1), {}
    module.recompile()
    example = torch.from_numpy(job.splits.train.batch(slice(0, 1)))
    shares: dict[nn.Module, float] = {}
    for group, kept in plan.keep.items():
        for node in job.coupling.group(group).producers:
            layer = next(m for n, m in module.named_modules() if n == node)
            shares[layer] = 1 - len(kept) / job.coupling.full[group]
    ignored = [m for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    pruner = tp.pruner.MagnitudePruner(
        module, example, tp.importance.MagnitudeImportance(p=1), pruning_ratio=0.0,
        pruning_ratio_dict=shares, ignored_layers=[m for m in ignored if m not in shares],
    )  # fmt: skip
    pruner.step()
    graph = graph_from_module(module, (example,))
    return graph, Plan(kernels={n.name: "int8" for n in weighted_nodes(graph)}), recipe


METHODS: dict[str, tuple[str, Cutter]] = {
    "random": ("widths", at_once("random", repairs=False)),
    "l1": ("widths", at_once("magnitude", repairs=False)),
    "l1-repaired": ("widths", at_once("magnitude", repairs=True)),
    "uniform": ("uniform", at_once("obs", repairs=True)),
    "torch-pruning": ("uniform", by_torch_pruning),
    "bo": ("bo", at_once("obs", repairs=True)),
    "one-shot": ("widths", at_once("obs", repairs=True)),
    **{name: ("widths", scheduled(name)) for name in SCHEDULES},
    "dsa": ("widths", by_dsa),
}


@dataclass(frozen=True)
class Jointly:
    """What a search for widths and bits leaves to be trained on."""

    plan: Plan
    graph: gs.Graph
    quantized: Quantized


def jointly(work: Path, job: Job, epochs: int) -> Jointly:
    """Widths and bits by gradients, in as many bytes as the default search's plan takes."""
    plan = Plan.from_json((work / "bo.json").read_text())
    cut = slim(job.graph, job.coupling, plan.keep, plan.dropped)
    kernels = quantised_kernels(plan.kernels, {node.name for node in cut.nodes})
    ranges = placeholder_encodings(cut, kernels, job.capabilities, plan.weight_bits)
    most = len(lower(cut, kernels, ranges, job.capabilities).SerializeToString())
    space = json.loads((work / "allocation.json").read_text())["space"]
    widths = legal_widths(from_json(SearchSpace, json.dumps(space)))
    asked, x = JointOptions(epochs, widths=widths), job.calibration()
    able = {n: k for n, k in plan.kernels.items() if k != "fp32"}
    found = joint.search(
        job.graph, job.coupling, job.capabilities, job.splits.train, x, able, most, asked,
        job.options.seed,
    )  # fmt: skip
    quantized = joint.carried_out(found, job.coupling, job.capabilities, x)
    return Jointly(found.plan, found.graph, quantized)
