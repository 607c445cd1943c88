"""Which channels of each group go first, and what it costs: the criteria by name."""

import onnx_graphsurgeon as gs

from hwprune.graph.channels import Coupling
from hwprune.network.run import Data
from hwprune.pruning.gradients import fisher, hessian, orthoreg, taylor
from hwprune.pruning.independence import itpruner
from hwprune.pruning.lowbit import LOW_BIT
from hwprune.pruning.magnitude import magnitude, random
from hwprune.pruning.ranking import Criterion, Ranking
from hwprune.pruning.surgeon import obs
from hwprune.pruning.surp import surp
from hwprune.quantize.ptq import Quantized
from hwprune.registry import unknown

CRITERIA: dict[str, Criterion] = {
    "obs": obs,
    "fisher": fisher,
    "taylor": taylor,
    "hessian": hessian,
    "orthoreg": orthoreg,
    **LOW_BIT,
    "itpruner": itpruner,
    "magnitude": magnitude,
    "surp": surp,
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


def rank_quantized(
    quantized: Quantized, coupling: Coupling, x: Data, criterion: str = "angle", seed: int = 0
) -> dict[str, Ranking]:
    """Ranks the channels of a network of few bits by its latent weights, as they are now.

    The criteria of few bits (`LOW_BIT`) go by the layers' own quantisers.

    Args:
        quantized: The network; it may have been trained.
        coupling: Of the graph that was quantised.
        x: Calibration samples.
        criterion: A name in `CRITERIA`.
        seed: Decides whatever is sampled.

    Raises:
        UsageError: There is no such criterion.
    """
    if criterion in LOW_BIT:
        return LOW_BIT[criterion].of_quantized(quantized, coupling)
    return rank_channels(quantized.graph, coupling, x, criterion, seed)
