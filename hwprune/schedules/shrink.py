"""A network trained under a schedule, and which of its channels are left."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import onnx_graphsurgeon as gs
import torch

from hwprune.errors import UsageError
from hwprune.frontend.dataset import DataSet
from hwprune.graph.channels import Coupling
from hwprune.graph.read import clone
from hwprune.graph.slim import slim
from hwprune.network.run import Data
from hwprune.network.twin import to_module, write_back
from hwprune.plan import Plan
from hwprune.pruning.criteria import rank_channels
from hwprune.pruning.reconstruct import FINAL, Reference
from hwprune.quantize.ptq import Quantized
from hwprune.schedules.schedule import Schedule, Task
from hwprune.train.batchnorm import normalized, reestimate
from hwprune.train.channels import Channels, channels_of
from hwprune.train.feed import batch_of, steps_of_an_epoch
from hwprune.train.loop import Progress, fit
from hwprune.train.optimizers import steady_rate
from hwprune.train.qat import RATE, rounding_adam
from hwprune.train.recipe import Recipe
from hwprune.train.snapshots import Snapshots

_RATE = 0.01  # while channels go; the recovery behind it has its own


@dataclass(frozen=True, slots=True)
class Shrunk:
    """The slim network with trained weights, and the plan that names the channels that stayed."""

    graph: gs.Graph
    plan: Plan


def recipe_of(recipe: Recipe, share: float) -> Recipe:
    """The recipe for the part of a training in which channels go: at one rate, and to the end."""
    part = recipe.part(share)
    return replace(part, rate=_RATE, curve="constant", keeps_best=False, ema=0.0)


def foreseen(
    schedule: Schedule,
    removals: Mapping[str, int],
    coupling: Coupling,
    data: DataSet,
    recipe: Recipe,
) -> int:
    """Steps that a schedule is going to take of a training, told before anything is trained.

    Raises UsageError where they are more than it has.
    """
    own, epoch = recipe_of(recipe, schedule.share), steps_of_an_epoch(data)
    full = {name: coupling.full[name] for name in removals}
    rate = steady_rate(own, batch_of(data))
    return schedule.plan(Task(removals, full, round(own.epochs * epoch), epoch, rate))


def shrink(
    graph: gs.Graph,
    coupling: Coupling,
    plan: Plan,
    schedule: Schedule,
    data: DataSet,
    recipe: Recipe,
    seed: int,
    calibration: Data,
    progress: Progress | None = None,
    snapshots: Snapshots | None = None,
    integers: Quantized | None = None,
) -> Shrunk:
    """Trains a network to do without as many channels of each group as the plan takes away.

    The plan's branches go first. BatchNorm is there while it trains, and the original teaches.
    Where a criterion chooses afterwards, least squares repair what that costs.

    Args:
        graph: The original, canonical; left unchanged.
        coupling: Of it.
        plan: Its `keep` says how many channels stay; which, the schedule finds.
        schedule: A new one.
        data: Training part; labels are used where there are any.
        recipe: Of the whole training, of which the schedule takes its share.
        seed: Same seed, same result on the same machine and thread number.
        calibration: Samples for that criterion and repair.
        progress: Called with steps done, steps in all, and what is going on.
        snapshots: Where the training is kept, to go on with after the process was killed.
        integers: The original without the plan's branches, quantised: what is trained then, so that
            channels go by what they are worth to the integers. It is used up.

    Raises UsageError, before it trains, for a schedule that is longer than its training, and for
    groups that would lose all channels.
    """
    removals = {g: _removed(coupling, g, len(kept)) for g, kept in plan.keep.items()}
    own, optimizer = recipe_of(recipe, schedule.share), None
    if integers is None:
        module = to_module(slim(graph, coupling, {}, plan.dropped))
    else:
        module, optimizer = integers.module, rounding_adam
        own = replace(own, rate=RATE, half=False)
    with normalized(module, data, seed):
        found = channels_of(module, graph, [coupling.group(g) for g in removals])
        schedule.bind(found, removals)
        fit(module, to_module(graph), data, own, seed, progress, optimizer, [schedule], snapshots)
        kept = {} if schedule.criterion else schedule.kept()
        _silence(found, kept)
        reestimate(module, data, seed)
    trained = clone(graph)
    write_back(module, trained)
    if schedule.criterion:
        rankings = rank_channels(trained, coupling, calibration, schedule.criterion, seed)
        kept = {g: rankings[g].kept(len(channels)) for g, channels in plan.keep.items()}
    slimmed = slim(trained, coupling, kept, plan.dropped)
    if schedule.criterion:
        whole = slim(trained, coupling, {}, plan.dropped)
        Reference(whole, coupling, calibration, seed, FINAL).reconstruct(slimmed, kept)
    return Shrunk(slimmed, replace(plan, keep=kept))


def _removed(coupling: Coupling, group: str, left: int) -> int:
    """How many channels go. Raises UsageError where none would stay, or none may go."""
    found = coupling.group(group)
    if not 0 < left <= found.width:
        raise UsageError(
            f"group {group!r} would keep {left} of its {found.width} channels",
            "keep at least one: a layer without channels gives nothing on",
        )
    if found.frozen is not None and left < found.width:
        raise UsageError(f"group {group!r} cannot be pruned: {found.frozen}")
    return found.width - left


def _silence(channels: Mapping[str, Channels], kept: Mapping[str, tuple[int, ...]]) -> None:
    """Nothing is left of the channels that go: masked and slim, the network is the same."""
    for name, stays in kept.items():
        mask = torch.zeros(channels[name].width)
        mask[list(stays)] = 1.0
        channels[name].shrink(mask)
