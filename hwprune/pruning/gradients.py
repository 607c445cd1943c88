"""Criteria from gradients, without labels: what the answers feel of a channel that is taken out.

Taking channel c out changes the weights that read it by -w_c. With random pulls u on the answers,
whose covariance is the curvature of the divergence (see `network.curvature`), s = w_c . J'u has
the mean square w_c' H w_c: twice the divergence to second order, whatever the signs.
"""

from collections.abc import Callable, Mapping

import onnx_graphsurgeon as gs
import torch
from torch import Tensor

from hwprune.graph.channels import Coupling
from hwprune.network import linear
from hwprune.network.curvature import pulled_gradients
from hwprune.network.run import Data
from hwprune.network.samples import affordable
from hwprune.network.twin import to_module
from hwprune.pruning.ranking import Ranking, ranked
from hwprune.pruning.slices import Slice, slices

_PULLS = 64
_VALUES = 4e7  # activations of one pass, which all stay for the way back

Gradients = Mapping[str, Tensor]  # by node, in the shape of the layer's weight
Score = Callable[[list[Slice], list[Slice], Mapping[str, Tensor], Gradients], Tensor]


def fisher(graph: gs.Graph, coupling: Coupling, x: Data, seed: int) -> dict[str, Ranking]:
    """Half the mean square of what all readers of a channel contribute: nats, second order."""
    return _averaged(graph, coupling, x, seed, lambda *of: _together(*of).square() / 2)


def taylor(graph: gs.Graph, coupling: Coupling, x: Data, seed: int) -> dict[str, Ranking]:
    """Mean magnitude of the first-order change (Molchanov et al. 2019, HALP), without labels."""
    return _averaged(graph, coupling, x, seed, lambda *of: _together(*of).abs())


def orthoreg(graph: gs.Graph, coupling: Coupling, x: Data, seed: int) -> dict[str, Ranking]:
    """Squared sum of w g over each filter that makes a channel, added over the filters.

    As OrthoReg (arXiv 2009.05014), which trains filters to be orthogonal so that this adds up.
    """
    return _averaged(graph, coupling, x, seed, _apart)


def hessian(graph: gs.Graph, coupling: Coupling, x: Data, seed: int) -> dict[str, Ranking]:
    """tr(H_cc) / n_c * |w_c|^2 / 2 of the filters that make a channel (HAP, arXiv 2101.08940)."""
    return _averaged(graph, coupling, x, seed, _traced)


def _averaged(
    graph: gs.Graph, coupling: Coupling, x: Data, seed: int, score: Score
) -> dict[str, Ranking]:
    """Each group's channels by the mean of `score` over the pulls."""
    twin = to_module(graph)
    layers, nodes = linear.layers(twin), {n.name: n for n in graph.nodes}
    weights = {n: _matrix(layer.weight.detach()) for n, layer in layers.items()}
    parts = {g.name: slices(g, nodes, layers) for g in coupling.prunable}
    sums = {g.name: torch.zeros(g.width, dtype=torch.float64) for g in coupling.prunable}
    few = affordable(graph, x, _VALUES, least=8, most=64)
    for pulled in pulled_gradients(twin, [m.weight for m in layers.values()], few, _PULLS, seed):
        gradients = {n: _matrix(g) for n, g in zip(layers, pulled, strict=True)}
        for name, (read, made) in parts.items():
            if read or made:
                sums[name] += score(read, made, weights, gradients).double()
    return {name: ranked((total / _PULLS).numpy()) for name, total in sums.items()}


def _matrix(weight: Tensor) -> Tensor:
    """Outputs x columns."""
    return weight.reshape(len(weight), -1)


def _together(
    read: list[Slice], made: list[Slice], weights: Mapping[str, Tensor], gradients: Gradients
) -> Tensor:
    """W . g per channel over all that read it; over what makes it where no plain product reads."""
    products = [s.of(weights[s.node] * gradients[s.node]).sum((1, 2)) for s in read or made]
    return torch.stack(products).sum(0)


def _apart(
    read: list[Slice], made: list[Slice], weights: Mapping[str, Tensor], gradients: Gradients
) -> Tensor:
    products = [s.of(weights[s.node] * gradients[s.node]).sum(2) for s in made or read]
    return torch.cat(products, 1).square().sum(1)


def _traced(
    read: list[Slice], made: list[Slice], weights: Mapping[str, Tensor], gradients: Gradients
) -> Tensor:
    of = [(s.of(weights[s.node]), s.of(gradients[s.node])) for s in made or read]
    found = [g.square().mean((1, 2)) * w.square().sum((1, 2)) / 2 for w, g in of]
    return torch.stack(found).sum(0)
