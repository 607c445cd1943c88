"""The low-precision angle: channels whose kernels point elsewhere once they are rounded.

Guerra, Zhuang, Reid and Drummond 2020: the mean angle between the kernels that read a channel and
their rounded selves (`angle_next_layer`); the largest go first. Where no plain product reads it,
the kernels that make it count. Rounded to three values, as 2 bits have (of 8 bits all angles are
alike): nothing within 0.7 of an output's mean magnitude, a sign beyond (Ternary Weight Networks,
arXiv 1605.04711). How large the values are turns no kernel.
"""

import math

import onnx_graphsurgeon as gs
import torch
from torch import Tensor

from hwprune.graph.channels import Coupling
from hwprune.network import linear
from hwprune.network.run import Data
from hwprune.network.twin import to_module
from hwprune.pruning.ranking import Ranking, ranked
from hwprune.pruning.slices import Slice, slices

_NOTHING = 0.7  # of the mean magnitude of an output's weights


def angle(graph: gs.Graph, coupling: Coupling, x: Data, seed: int) -> dict[str, Ranking]:
    """Ranks by what is left of a right angle, which no kernel and its rounded self make."""
    layers, nodes = linear.layers(to_module(graph)), {n.name: n for n in graph.nodes}
    angles = {n: angles_of(layer) for n, layer in layers.items()}
    found = {}
    for group in coupling.prunable:
        read, made = slices(group, nodes, layers)
        means = [_mean(s, layers[s.node], angles[s.node]) for s in read or made]
        mean = torch.stack(means).mean(0) if means else torch.zeros(group.width)
        found[group.name] = ranked((math.pi / 2 - mean).double().numpy() / group.width)
    return found


def angles_of(layer: linear.Layer) -> Tensor:
    """Arccos of w . Q(w) / (|w| |Q(w)|) of every kernel, outputs x inputs; 0 for empty kernels."""
    weight = linear.weight_matrix(layer)
    threshold = _NOTHING * weight.abs().mean(-1, keepdim=True)
    rounded = weight.sign() * (weight.abs() > threshold)
    kernel = layer.weight[0, 0].numel()
    a, b = (m.double().reshape(len(layer.weight), -1, kernel) for m in (weight, rounded))
    product = (a * b).sum(-1)
    norms = a.norm(dim=-1) * b.norm(dim=-1)
    cosine = torch.where(norms > 0, product / norms.clamp_min(1e-30), torch.zeros(()))
    empty = a.norm(dim=-1) == 0
    return torch.where(empty, torch.zeros(()), cosine.clamp(-1, 1).acos())


def _mean(part: Slice, layer: linear.Layer, angles: Tensor) -> Tensor:
    """Over the kernels of each channel."""
    kernel = layer.weight[0, 0].numel()
    if not part.is_read:
        return angles[part.index].mean((1, 2))
    return angles.T[part.index // kernel].mean((1, 2))  # each kernel as often as it has entries
