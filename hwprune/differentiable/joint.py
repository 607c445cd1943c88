"""Widths and bits searched for together while the network is trained (arXiv 2407.01054).

The trained network comes in, quantised to 8 bits; every output of every layer then chooses among
{0, 2, 4, 8} bits under the pressure of what it costs; the likeliest choice within the bytes that
are asked for is cut out, and trained on with its bits fixed.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_graphsurgeon as gs
import torch

from hwprune.backend import Capabilities
from hwprune.differentiable.choosing import JointOptions, choose
from hwprune.differentiable.costs import COSTS, size_bytes
from hwprune.differentiable.decisions import Decision, Inclinations, promoted
from hwprune.differentiable.files import Files
from hwprune.differentiable.pressure import Aim
from hwprune.frontend.dataset import DataSet
from hwprune.graph.channels import Coupling
from hwprune.graph.slim import slim
from hwprune.network.run import Inputs, inputs_of, outputs
from hwprune.network.twin import to_module
from hwprune.plan import Plan
from hwprune.precision import INT8
from hwprune.quantize.placement import place
from hwprune.quantize.ptq import Quantized, quantize
from hwprune.train.loop import Progress
from hwprune.train.loss import distillation
from hwprune.train.qat import qat
from hwprune.train.recipe import Recipe
from hwprune.train.snapshots import Snapshots

_STRENGTH = 0.3  # of all that there is to lose: what the whole network costs
_SAMPLES = 512  # that ranges, and the loss at stake, are taken from


@dataclass(frozen=True, slots=True)
class Found:
    """A plan, the whole network with the weights that were trained for it, and the file's bytes."""

    plan: Plan
    graph: gs.Graph
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Joint:
    """What was found, and the finished network, to be lowered with the plan's kernels."""

    found: Found
    quantized: Quantized


def joint(
    graph: gs.Graph,
    coupling: Coupling,
    capabilities: Capabilities,
    data: DataSet,
    most_bytes: int,
    options: JointOptions | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Joint:
    """`search` with everything on integers that can be, and the training after it."""
    options = options or JointOptions()
    few = data.take(_SAMPLES, seed)
    x = tuple(map(torch.from_numpy, few.inputs(slice(0, len(few)))))
    kernels = dict.fromkeys((node.name for node in graph.nodes), INT8)
    found = search(
        graph, coupling, capabilities, data, x, kernels, most_bytes, options, seed, progress
    )
    quantized = carried_out(found, coupling, capabilities, x)
    trained = qat(quantized, graph, data, options.recipe(data), seed, progress)
    return Joint(found, trained)


def carried_out(
    found: Found, coupling: Coupling, capabilities: Capabilities, x: Inputs
) -> Quantized:
    """The network of a plan, cut and quantised anew."""
    plan = found.plan
    graph = slim(found.graph, coupling, plan.keep)
    bits = plan.weight_bits
    return quantize(graph, plan.kernels, capabilities, x, bits, channel_bits=plan.channel_bits)


def search(
    graph: gs.Graph,
    coupling: Coupling,
    capabilities: Capabilities,
    data: DataSet,
    x: Inputs,
    kernels: Mapping[str, str],
    most_bytes: int,
    options: JointOptions,
    seed: int = 0,
    progress: Progress | None = None,
    snapshots: Snapshots | None = None,
) -> Found:
    """Which channels stay, and with how many bits, so that the file takes `most_bytes` at most.

    Args:
        graph: Canonical, trained; left unchanged. It is the teacher, too.
        coupling: Of it.
        capabilities: Of the target.
        data: Training part; labels are used where there are any.
        x: Calibration samples.
        kernels: Per node name; products on integers choose bits, others stay as they are.
        most_bytes: Of the file that the plan becomes.
        options: How.
        seed: Same seed, same result on the same machine and thread number.
        progress: Called with steps done, steps in all, and what is going on.
        snapshots: Where the training is kept, to go on with after the process was killed.

    Raises:
        UsageError: Nothing to choose from, or a target without a scale for each output.
        InfeasibleError: No choice takes so few bytes.
    """
    options.check(capabilities)
    able = sorted(place(graph, kernels, capabilities).nodes)
    integers, strength = dict.fromkeys(able, INT8), _STRENGTH * loss_at_stake(graph, x)

    def files(choice: Inclinations) -> Files:
        return Files(graph, coupling, capabilities, integers, choice)

    def aims(choice: Inclinations) -> list[Aim]:
        files(choice).within(options.widths, most_bytes)  # before any training: can it be met?
        whole = choice.decide({})
        rest = files(choice).size(whole) - float(size_bytes(choice.uses(whole)))
        pressed = [] if options.cost is None else [Aim(COSTS[options.cost], None, strength)]
        return [Aim(size_bytes, most_bytes - rest, strength), *pressed]

    def decide(choice: Inclinations) -> Decision:
        found = files(choice).within(options.widths, most_bytes)
        return found if options.cost is None else promoted(choice, found, COSTS[options.cost])

    quantized = quantize(graph, integers, capabilities, x)
    chosen = choose(
        quantized, graph, coupling, data, options, aims, decide, seed, progress, snapshots
    )
    file = files(chosen.choice)
    return Found(file.plan(chosen.decision), chosen.trained.graph, file.size(chosen.decision))


def loss_at_stake(graph: gs.Graph, x: Inputs) -> float:
    """What a student loses that gives the mean answer to everything: all that there is to lose."""
    answers = tuple(outputs(to_module(graph), inputs_of(x, _SAMPLES)))
    means = tuple(a.mean(0, keepdim=True).expand_as(a) for a in answers)
    return float(distillation(means, answers, Recipe(0).temperature))
