"""As many channels as an accuracy allows: IncReg's second mode, in stages (arXiv 1811.08390).

Every stage prunes on from the last one that kept the accuracy; one that does not is rolled back.
The authors' code takes as the next step what a line through the last two accuracies promises, and
stops once that is below 0.01. Where accuracy falls off a cliff, that stops far in front of it; so
steps after a failure stay between a quarter and a half of what is left between both.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from hwprune.frontend.dataset import DataSet
from hwprune.graph.coupling import couple
from hwprune.network.run import Data
from hwprune.plan import Plan
from hwprune.progress import Progress, Silent
from hwprune.schedules.increg import IncReg
from hwprune.schedules.shrink import shrink
from hwprune.train.recipe import Recipe
from hwprune.train.recover import recover

_START = 0.2  # share of the channels that the first stage removes
_LEAST, _MOST = 0.01, 0.2  # of a step
_CAP = 0.9  # share of the channels at most
_SLACK = 5e-4  # of the accuracy
_PER_POINT = 10.0  # step for what a stage has to spare


@dataclass(frozen=True, slots=True)
class Attempt:
    """A stage: the share of channels that it removed in all, and the accuracy (0..1) after it."""

    ratio: float
    accuracy: float
    keeps: bool


def stages(attempt: Callable[[float], float], floor: float) -> Iterator[Attempt]:
    """Looks for the largest ratio whose accuracy is at least `floor`, to within 0.01.

    `attempt(ratio)` goes there from the last ratio that kept the floor, and tells the accuracy.
    """
    good, bad, step = 0.0, _CAP + _LEAST, _START
    spare = 0.0
    while bad - good > _LEAST and good < _CAP:
        ratio = min(good + step, _CAP)
        accuracy = attempt(ratio)
        keeps = accuracy >= floor - _SLACK
        yield Attempt(ratio, accuracy, keeps)
        if keeps:
            good, spare = ratio, accuracy - floor
            step = min(max(_PER_POINT * spare, _LEAST), _MOST, max(_LEAST, (bad - good) / 2))
        else:
            bad = ratio
            promised = step * spare / max(1e-9, spare + floor - accuracy)
            step = max(_LEAST / 2, min(max(promised, (bad - good) / 4), (bad - good) / 2))


@dataclass(frozen=True, slots=True)
class Sparsest:
    """The slimmest network that keeps the accuracy, and how it was found."""

    graph: gs.Graph
    ratio: float
    attempts: tuple[Attempt, ...]


def prune_to_floor(
    graph: gs.Graph,
    floor: float,
    accuracy: Callable[[gs.Graph], float],
    data: DataSet,
    recipe: Recipe,
    seed: int,
    calibration: Data,
    progress: Progress | None = None,
) -> Sparsest:
    """Removes the same share of every group, by IncReg, as far as an accuracy allows.

    Args:
        graph: The original, canonical; left unchanged.
        floor: Least accuracy, 0..1.
        accuracy: Of a network, on samples that are neither trained on nor the final judge.
        data: Training part.
        recipe: Of each stage: half of it for IncReg, half for recovery.
        seed: Of everything that is drawn.
        calibration: Samples for repair.
        progress: Who watches.
    """
    original, widths = graph, {g.name: g.width for g in couple(graph).prunable}
    best, found, watch = graph, dict[float, gs.Graph](), progress or Silent()

    def attempt(ratio: float) -> float:
        coupling = couple(best)
        keep = {
            g.name: tuple(range(_left(widths[g.name], ratio)))
            for g in coupling.prunable
            if g.name in widths and _left(widths[g.name], ratio) < g.width
        }
        schedule = IncReg()
        shrunk = shrink(best, coupling, Plan(keep), schedule, data, recipe, seed, calibration)
        rest = recipe.part(1 - schedule.share)
        found[ratio] = recover(shrunk.graph, original, data, rest, seed)
        return accuracy(found[ratio])

    tried = []
    for one in stages(attempt, floor):
        tried.append(one)
        watch.note(f"{one.ratio:.1%} of the channels: {one.accuracy:.2%}")
        if one.keeps:
            best = found[one.ratio]
    kept = [one.ratio for one in tried if one.keeps]
    return Sparsest(best, max(kept, default=0.0), tuple(tried))


def _left(width: int, ratio: float) -> int:
    return max(1, round(width * (1 - ratio)))
