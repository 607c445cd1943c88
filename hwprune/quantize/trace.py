"""The Hessian's trace per weight: what rounding a weight costs, without rounding it.

HAWQ-V2 (Dong et al. 2020) ranks layers by tr(H_l) / n_l * |Q(W_l) - W_l|^2. Half of it is the
second-order estimate of the loss where the errors are random, in the loss's own units.
"""

from collections.abc import Mapping, Sequence

import onnx_graphsurgeon as gs
import torch
from torch import fx

from hwprune.network import linear
from hwprune.network.curvature import pulled_gradients
from hwprune.network.run import Data, Inputs
from hwprune.network.samples import affordable
from hwprune.network.twin import to_module
from hwprune.precision import FULL_BITS
from hwprune.quantize.grids import few_bits_grid

_PROBES = 100
_VALUES = 4e7  # activations of one pass, which all stay for the way back


def traced_sensitivity(
    graph: gs.Graph, options: Mapping[str, Sequence[int]], per_channel: bool, x: Data, seed: int = 0
) -> dict[str, dict[int, float]]:
    """The estimated loss when one node's weight is rounded to few bits and all else is fp32.

    Args as for `bit_sensitivity`, whose losses these estimate; full widths lose nothing.
    """
    x = affordable(graph, x, _VALUES, least=8, most=64)
    twin = to_module(graph)
    layers = {n: layer for n, layer in linear.layers(twin).items() if n in options}
    found = traces(twin, layers, x, _PROBES, seed)
    return {
        n: {b: _loss(layers[n], found[n], b, per_channel) if b < FULL_BITS else 0.0 for b in bits}
        for n, bits in options.items()
        if n in layers
    }


def traces(
    twin: fx.GraphModule, layers: Mapping[str, linear.Layer], x: Inputs, probes: int, seed: int
) -> dict[str, float]:
    """tr(H) of each layer's weight, where H is the Hessian of the divergence from the network's own
    answers (see `trials.losses`), which is zero, with a gradient of zero, at its own weights.

    There H = J' F J exactly, with J of the outputs and F the divergence's Hessian in them. With
    random u of covariance F, |J' u|^2 is the trace on average: one pass back, not two.
    """
    weights = [layer.weight for layer in layers.values()]
    sums = torch.zeros(len(weights), dtype=torch.float64)
    for gradients in pulled_gradients(twin, weights, x, probes, seed):
        sums += torch.stack([g.double().square().sum() for g in gradients])
    return dict(zip(layers, (sums / probes).tolist(), strict=True))


@torch.no_grad()
def _loss(layer: linear.Layer, trace: float, bits: int, per_channel: bool) -> float:
    weight = linear.weight_matrix(layer)
    rounded = few_bits_grid(weight, bits, per_channel)(weight)
    return 0.5 * trace / weight.numel() * float((weight - rounded).double().square().sum())
