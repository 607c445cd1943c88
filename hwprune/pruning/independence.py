"""ITPruner (arXiv 2108.08532): layers whose features no other layer has matter most. No labels.

I_l = exp(-beta * share of all linear CKA that layer l has); the channels of a group go by
magnitude, and each costs its layer's importance alike.
"""

import numpy as np
import onnx_graphsurgeon as gs
import torch
from numpy.typing import NDArray
from torch import Tensor

from hwprune.graph.channels import Coupling
from hwprune.network import linear
from hwprune.network.run import Data
from hwprune.network.samples import affordable
from hwprune.network.twin import to_module
from hwprune.pruning.magnitude import magnitude
from hwprune.pruning.ranking import Ranking

_BETA = 231.0  # as published for ResNet-20
_VALUES = 1e8


def itpruner(graph: gs.Graph, coupling: Coupling, x: Data, seed: int) -> dict[str, Ranking]:
    """Importance per layer, shared by its channels."""
    few = affordable(graph, x, _VALUES, least=16, most=128)
    features = _features(graph, coupling, few)
    importance = dict(zip(features, independence(list(features.values())), strict=True))
    found = {}
    for name, ranking in magnitude(graph, coupling, x, seed).items():
        width = len(ranking.order)
        each = importance.get(name, 1.0) / width
        found[name] = Ranking(ranking.order, each * np.arange(width + 1.0))
    return found


def independence(features: list[Tensor], beta: float = _BETA) -> NDArray[np.float64]:
    """exp(-beta * sum_j CKA(l, j) / sum of all) of each of `features` (samples x values)."""
    grams = [_centred(f) for f in features]
    if not grams:
        return np.zeros(0)
    flat = torch.stack([g.flatten() / g.norm().clamp_min(1e-30) for g in grams])
    alike = (flat @ flat.T).fill_diagonal_(0.0)
    share = alike.sum(1) / alike.sum().clamp_min(1e-30)
    return np.asarray(torch.exp(-beta * (share - share.min())).numpy(), np.float64)


def _centred(features: Tensor) -> Tensor:
    """The Gram matrix of the features about their mean."""
    rows = features.double() - features.double().mean(0)
    return rows @ rows.T


@torch.no_grad()
def _features(graph: gs.Graph, coupling: Coupling, x: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """What the first producer of each group gives, samples x values."""
    twin = to_module(graph)
    layers = linear.layers(twin)
    seen: dict[str, Tensor] = {}
    first = {g.name: next((p for p in g.producers if p in layers), None) for g in coupling.prunable}
    for node in {n for n in first.values() if n is not None}:
        layers[node].register_forward_hook(
            lambda _m, _i, output, node=node: seen.__setitem__(node, output.flatten(1))
        )
    twin(*x)
    return {g: seen[n] for g, n in first.items() if n in seen}
