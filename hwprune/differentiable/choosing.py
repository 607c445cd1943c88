"""One training in which weights and the choices of outputs are found together."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, inf

import onnx_graphsurgeon as gs

from hwprune.backend import Capabilities
from hwprune.differentiable.costs import COSTS
from hwprune.differentiable.decisions import Decision, Inclinations
from hwprune.differentiable.mixed import Mixture
from hwprune.differentiable.pressure import Aim, Pressure, adam_for
from hwprune.errors import UsageError
from hwprune.frontend.dataset import DataSet
from hwprune.graph.channels import Coupling
from hwprune.network.twin import to_module
from hwprune.quantize.ptq import Quantized, reread
from hwprune.train.batchnorm import normalized, reestimate
from hwprune.train.feed import steps_of_an_epoch
from hwprune.train.loop import Progress, fit
from hwprune.train.qat import RATE
from hwprune.train.recipe import Recipe
from hwprune.train.snapshots import Snapshots

BITS = (0, 2, 4, 8)
_STEPS = 400  # of a search that nobody gave a length


@dataclass(frozen=True, slots=True)
class JointOptions:
    """How to search.

    Attributes:
        epochs: Of the search, and of the training after it; None: some 400 steps of each.
        minutes: Of each of the two, by the clock instead.
        bits: The options of every output; 0 lets channels go, 8 are all that the target multiplies.
        cost: What is pressed down beside the file's bytes: a name in `COSTS`, or None.
        widths: Per group its legal widths, ascending; groups left out may have any.
    """

    epochs: int | None = None
    minutes: float | None = None
    bits: tuple[int, ...] = BITS
    cost: str | None = None
    widths: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def recipe(self, data: DataSet) -> Recipe:
        """Of each of the two trainings."""
        epochs = self.epochs or ceil(_STEPS / max(1, steps_of_an_epoch(data)))
        return Recipe(epochs, minutes=self.minutes)

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
    snapshots: Snapshots | None = None,
) -> Chosen:
    """Trains a quantised network of full widths and its choices together, in place.

    `aims` are made from what the choices are before the training, `decide` ends it: BatchNorm sees
    what was decided before it is folded. With one option there is nothing to choose, and this is
    `hwprune.train.qat.qat`.
    """
    module, chooses = quantized.module, len(options.bits) > 1
    least = {group: min(widths) for group, widths in options.widths.items()}
    recipe = replace(options.recipe(data), rate=RATE, half=False)
    if chooses:  # what shrinks is best before it does; clipping would slow logits down
        recipe = replace(recipe, keeps_best=False, clip=inf)
    with normalized(module, data, seed):
        mixture = Mixture(module, quantized.graph, coupling, options.bits, least)
        pressure = Pressure(mixture, aims(mixture.inclinations()))
        fit(
            module, to_module(teacher), data, recipe, seed, progress, adam_for(mixture),
            [pressure], snapshots,
        )  # fmt: skip
        choice = mixture.inclinations()
        decision = decide(choice)
        if chooses:
            mixture.settle(decision)
            reestimate(module, data, seed)
        mixture.remove()
    return Chosen(reread(quantized), choice, decision)
