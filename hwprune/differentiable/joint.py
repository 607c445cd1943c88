"""Widths and bits searched for together while the network is trained (arXiv 2407.01054).

The trained network comes in, quantised to 8 bits; every output of every layer then chooses among
{0, 2, 4, 8} bits under the pressure of what it costs; the likeliest choice within the bytes that
are asked for is cut out, and trained on with its bits fixed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, inf

import onnx_graphsurgeon as gs
import torch

from hwprune.backend import Capabilities
from hwprune.differentiable.costs import COSTS, size_bytes
from hwprune.differentiable.decisions import Decision, Inclinations, promoted
from hwprune.differentiable.files import Files
from hwprune.differentiable.mixed import Mixture
from hwprune.differentiable.pressure import Aim, Pressure, adam_for
from hwprune.errors import UsageError
from hwprune.frontend.dataset import DataSet
from hwprune.graph.channels import Coupling
from hwprune.graph.slim import slim
from hwprune.network.run import Inputs, inputs_of, outputs
from hwprune.network.twin import to_module
from hwprune.plan import Plan
from hwprune.precision import INT8
from hwprune.quantize.placement import place
from hwprune.quantize.ptq import Quantized, quantize, reread
from hwprune.train.batchnorm import normalized, refresh
from hwprune.train.feed import steps_of_an_epoch
from hwprune.train.loop import Progress, fit
from hwprune.train.loss import distillation
from hwprune.train.qat import RATE, qat
from hwprune.train.recipe import Recipe

BITS = (0, 2, 4, 8)
_STEPS = 400  # of a search that nobody gave a length
_STRENGTH = 0.3  # of all that there is to lose: what the whole network costs
_SAMPLES = 512  # that ranges, and the loss at stake, are taken from


@dataclass(frozen=True, slots=True)
class JointOptions:
    """How to search.

    Attributes:
        epochs: Of the search, and of the training after it; None: some 400 steps of each.
        bits: The options of every output; 0 lets channels go, 8 are all that the target multiplies.
        cost: What is pressed down beside the file's bytes: a name in `COSTS`, or None.
        widths: Per group its legal widths, ascending; groups left out may have any.
    """

    epochs: int | None = None
    bits: tuple[int, ...] = BITS
    cost: str | None = None
    widths: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def epochs_for(self, data: DataSet) -> int:
        """Of each of the two trainings."""
        return self.epochs or ceil(_STEPS / max(1, steps_of_an_epoch(data)))

    def check(self, capabilities: Capabilities) -> None:
        """Raises UsageError for what nobody could choose from."""
        if not set(self.bits) <= set(BITS) or not any(self.bits):
            raise UsageError(f"outputs cannot have {self.bits} bits", "some of 0, 2, 4 and 8")
        if self.cost is not None and self.cost not in COSTS:
            raise UsageError(f"there is no cost {self.cost!r}", ", ".join(COSTS))
        if not capabilities.per_channel:
            raise UsageError(
                "the target has one scale for a whole weight, so its outputs have no bits of "
                "their own",
                "leave --search joint out",
            )


@dataclass(frozen=True, slots=True)
class Chosen:
    """The whole network as it was trained, what its choices incline to, and what was decided."""

    trained: Quantized
    choice: Inclinations
    decision: Decision


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
    trained = qat(quantized, graph, data, seed, progress, options.epochs_for(data))
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
    chosen = choose(quantized, graph, coupling, data, options, aims, decide, seed, progress)
    file = files(chosen.choice)
    return Found(file.plan(chosen.decision), chosen.trained.graph, file.size(chosen.decision))


def choose(
    quantized: Quantized,
    teacher: gs.Graph,
    coupling: Coupling,
    data: DataSet,
    options: JointOptions,
    aims: Callable[[Inclinations], Sequence[Aim]],
    decide: Callable[[Inclinations], Decision],
    seed: int = 0,
    progress: Progress | None = None,
) -> Chosen:
    """Trains a quantised network of full widths and its choices together, in place.

    `aims` are made from what the choices are before the training, `decide` ends it: BatchNorm sees
    what was decided before it is folded. With one option there is nothing to choose, and this is
    `hwprune.train.qat.qat`.
    """
    module, epochs = quantized.module, options.epochs_for(data)
    least = {group: min(widths) for group, widths in options.widths.items()}
    recipe = Recipe(epochs, RATE, half=False)
    if (
        len(options.bits) > 1
    ):  # what shrinks is best before it does; clipping would slow logits down
        recipe = replace(recipe, keeps_best=False, clip=inf)
    steps = epochs * steps_of_an_epoch(data)
    with normalized(module, data, seed):
        mixture = Mixture(module, quantized.graph, coupling, options.bits, least)
        pressure = Pressure(mixture, aims(mixture.inclinations()), steps, progress)
        fit(
            module, to_module(teacher), data, recipe, seed, pressure.told, adam_for(mixture),
            [pressure],
        )  # fmt: skip
        choice = mixture.inclinations()
        decision = decide(choice)
        if len(options.bits) > 1:
            mixture.settle(decision)
            refresh(module, data, seed)
        mixture.remove()
    return Chosen(reread(quantized), choice, decision)


def loss_at_stake(graph: gs.Graph, x: Inputs) -> float:
    """What a student loses that gives the mean answer to everything: all that there is to lose."""
    answers = tuple(outputs(to_module(graph), inputs_of(x, _SAMPLES)))
    means = tuple(a.mean(0, keepdim=True).expand_as(a) for a in answers)
    return float(distillation(means, answers, Recipe(0, 0).temperature))
