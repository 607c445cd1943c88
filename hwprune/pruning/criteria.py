"""Which channels of each group go first, and what it costs: the criteria by name."""

import onnx_graphsurgeon as gs

from hwprune.graph.channels import Coupling
from hwprune.network.run import Data
from hwprune.pruning.angle import angle
from hwprune.pruning.gradients import fisher, hessian, orthoreg, taylor
from hwprune.pruning.independence import itpruner
from hwprune.pruning.magnitude import magnitude, random
from hwprune.pruning.ranking import Criterion, Ranking
from hwprune.pruning.surgeon import obs
from hwprune.registry import unknown

CRITERIA: dict[str, Criterion] = {
    "obs": obs,
    "fisher": fisher,
    "taylor": taylor,
    "hessian": hessian,
    "orthoreg": orthoreg,
    "angle": angle,
    "itpruner": itpruner,
    "magnitude": magnitude,
    "random": random,
}


def rank_channels(
    graph: gs.Graph, coupling: Coupling, x: Data, criterion: str = "obs", seed: int = 0
) -> dict[str, Ranking]:
    """Ranks the channels of every prunable group.

    Args:
        graph: The network.
        coupling: Its coupling.
        x: Calibration samples; labels are not needed.
        criterion: A name in `CRITERIA`.
        seed: Decides whatever is sampled.

    Raises:
        UsageError: There is no such criterion.
    """
    if criterion not in CRITERIA:
        raise unknown("criterion", criterion, CRITERIA)
    return CRITERIA[criterion](graph, coupling, x, seed)
