"""DSA: how many channels each layer keeps is trained under the budget, along with the weights.

Ning et al. 2020 (ECCV, arXiv 2004.02164), with the latency table in the place of FLOPs: weights
move on one part of the training data, keep ratios on another, and the budget is kept by an
augmented Lagrangian. It starts from a trained network or from none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from hwprune.differentiable.allocation import Allocation
from hwprune.differentiable.allocator import Allocator
from hwprune.differentiable.gates import Gated, without_branches
from hwprune.differentiable.importance import Importance, Norms, Ranked
from hwprune.differentiable.ratios import Ratios
from hwprune.errors import DataError, UsageError
from hwprune.frontend.dataset import DataSet, balanced_order
from hwprune.graph.channels import Coupling, Widths
from hwprune.graph.read import clone
from hwprune.network.twin import to_module, write_back
from hwprune.pruning.ranking import Ranking
from hwprune.train.batchnorm import normalized, reestimate
from hwprune.train.device import training_device
from hwprune.train.feed import Feed, held_out
from hwprune.train.loop import Progress, fit
from hwprune.train.objective import Objective
from hwprune.train.recipe import Recipe
from hwprune.train.snapshots import Snapshots

LEAST = 40  # samples that can be divided between weights and ratios
_HELD_OUT = 4  # one in so many samples is for the ratios


@dataclass(frozen=True, slots=True)
class Learned:
    """What a training has decided.

    Attributes:
        ratios: width variable -> share of its channels that stays.
        used: share of the budget, and of each further bound, that is expected at these ratios.
        orders: group -> its channels, the most important first.
        graph: the network with trained weights, at full width. Nothing reads the channels that the
            legal widths nearest to the ratios leave out: it computes what is left without them,
            and so does every slim version that is no narrower.
    """

    ratios: Mapping[str, float]
    used: tuple[float, ...]
    orders: Mapping[str, NDArray[np.int64]]
    graph: gs.Graph

    def kept(self, widths: Widths) -> dict[str, tuple[int, ...]]:
        """The most important channels of each group, so many of each, ascending."""
        known = {g: w for g, w in widths.items() if g in self.orders}
        return {g: tuple(sorted(self.orders[g][:w].tolist())) for g, w in known.items()}


def learn_ratios(
    graph: gs.Graph,
    coupling: Coupling,
    allocation: Allocation,
    data: DataSet,
    recipe: Recipe,
    seed: int,
    teacher: gs.Graph | None = None,
    rankings: Mapping[str, Ranking] | None = None,
    progress: Progress | None = None,
    snapshots: Snapshots | None = None,
) -> Learned:
    """Trains keep ratios and weights until the expected latency is the budget's.

    Args:
        graph: Canonical; its weights are where the training starts, and it is left unchanged.
        coupling: Of `graph`.
        allocation: What is decided, and the budget.
        data: Training part; labels are used where there are any. A quarter moves the ratios, the
            rest the weights.
        recipe: How the weights are trained. The last ones are kept, whatever it says, and it takes
            no features or running means: the network becomes another while it is trained.
        seed: Same seed, same result on the same machine and thread number.
        teacher: Whose answers are learnt; None: those of `graph` as it is given.
        rankings: In which order channels go, by group; None: by the L1 norm of their filters, as
            the paper has it, which changes while they are trained.
        progress: Called with steps done, steps in all, and what is going on.
        snapshots: Where the state is kept, to go on with after the process was killed.

    Raises:
        UsageError: Nothing can be pruned, or nobody could follow the recipe.
        DataError: There are too few samples.
        InfeasibleError: No ratios meet the bounds.
        UnsupportedModelError: A node cannot be trained.
    """
    recipe.check(data.labelled)
    check_trainable(coupling, data)
    allocation.check()
    student = to_module(graph, runtime=False)
    without_branches(student, allocation.dropped(coupling))
    guide = to_module(graph if teacher is None else teacher)
    recipe = replace(recipe, keeps_best=False, feature_weight=0.0, ema=0.0)
    for_ratios, for_weights = _divided(data, seed)
    with normalized(student, for_weights, seed):
        groups = [name for names in allocation.groups.values() for name in names]
        importance: Importance = Norms(student, graph, coupling, groups)
        if rankings is not None:
            importance = Ranked([rankings[group].order for group in groups])
        ratios = Ratios(allocation.groups, allocation.least, importance, seed)
        gated = Gated(student, graph, coupling, groups, ratios.gates)
        feed = Feed(for_ratios, seed + 1, training_device(), recipe.mixup)
        allocator = Allocator(Objective(gated, guide, recipe, feed), ratios, allocation)
        fit(gated, guide, for_weights, recipe, seed, progress, None, [allocator], snapshots)
        if ratios.settled is None:
            allocator.settle()  # the training was too short for it
        reestimate(gated, for_weights, seed)
        orders = ratios.orders()
        gated.bake()
    trained = clone(graph)
    write_back(student, trained)
    shares = ratios.shares.detach()
    return Learned(
        dict(zip(allocation.groups, shares.tolist(), strict=True)),
        tuple(allocation.relaxed.used(shares).tolist()),
        {group: order.numpy() for group, order in orders.items()},
        trained,
    )


def check_trainable(coupling: Coupling, data: DataSet) -> None:
    """Raises UsageError where nothing can be pruned, DataError for too few samples."""
    if not coupling.prunable:
        frozen = next((g.frozen for g in coupling.groups if g.frozen), "it has no layers")
        raise UsageError(
            f"nothing in this network can be pruned: {frozen}",
            "leave --search dsa out: kernels are still chosen",
        )
    if len(data) < LEAST:
        raise DataError(
            f"{len(data)} training samples are too few to train keep ratios by",
            f"give at least {LEAST}, or leave --search dsa out",
        )


def _divided(data: DataSet, seed: int) -> Sequence[DataSet]:
    """For the ratios, and for the weights; classes are balanced in both.

    Samples that a recovery of the same data and seed chooses its checkpoint by are left alone: it
    would never find anything better than what has learnt them.
    """
    order = balanced_order(data, seed)[held_out(len(data)) :]
    count = len(order) // _HELD_OUT
    return data.select(order[:count]), data.select(order[count:])
