"""What few bits make of each channel's kernels: angle and distance of weights and their selves.

Guerra, Zhuang, Reid and Drummond 2020 (arXiv 2002.00523): a network of few bits is trained by
latent weights w, and computes with Q(w). Channels whose kernels are far from their quantised selves
are thought redundant, and the farthest go first. Next-layer scores, the paper's default, look at
the kernels that read a channel; own scores at those that make it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs
import torch
from torch import Tensor

from hwprune.graph.channels import Coupling
from hwprune.network import linear
from hwprune.network.run import Data
from hwprune.network.twin import to_module
from hwprune.pruning.ranking import Ranking, alike
from hwprune.pruning.slices import Slice, slices
from hwprune.quantize.kinds import WeightKind
from hwprune.quantize.ptq import Quantized
from hwprune.quantize.quantizers import quantized_layer, quantized_weight

Measure = Callable[[Tensor, Tensor], Tensor]

_DEFAULT = WeightKind("ternary", 2, "channel")  # of 8 bits all angles are alike


def angles(latent: Tensor, quantized: Tensor) -> Tensor:
    """Arccos of <w, Q(w)> / (|w| |Q(w)|), radians, along the last axis: `... x entries` to `...`.

    Where there is nothing to see, on either side, it is a right angle.
    """
    w, q = latent.double(), quantized.double()
    norms = w.norm(dim=-1) * q.norm(dim=-1)
    cosines = torch.where(norms > 0, (w * q).sum(-1) / norms.clamp_min(1e-300), 0.0)
    return cosines.clamp(-1, 1).acos()


def distances(latent: Tensor, quantized: Tensor) -> Tensor:
    """|Q(w) - w|^2 along the last axis: `... x entries` to `...`. It grows with the weights."""
    return (quantized.double() - latent.double()).square().sum(-1)


@dataclass(frozen=True, slots=True)
class LowBit:
    """A criterion: what is measured of each kernel, and whether of those that make a channel.

    Next-layer scores fall back to own ones where no quantised layer reads the channel by a plain
    product. A channel's score is the mean over kernels, then over layers. What a channel costs it
    does not say, only which goes first.
    """

    measure: Measure
    own: bool

    def __call__(
        self, graph: gs.Graph, coupling: Coupling, x: Data, seed: int
    ) -> dict[str, Ranking]:
        """Ranks an fp32 network by what ternary weights would make of it (see `Criterion`).

        Ternary Weight Networks, arXiv 1605.04711: the coarsest rounding that tells kernels of any
        size apart. (To the sign, one weight alone has no angle, and more bits have hardly any.)
        """
        layers = linear.layers(to_module(graph))
        rounded = {n: quantized_layer(layer, _DEFAULT) for n, layer in layers.items()}
        return self.ranked(graph, coupling, layers, _selves(rounded))

    def of_quantized(self, quantized: Quantized, coupling: Coupling) -> dict[str, Ranking]:
        """Ranks a quantised network by its own quantisers, whatever their kind.

        Args:
            quantized: Its layers hold latent weights: it was quantised with `latent`, or trained.
            coupling: Of `quantized.graph`, or of the graph that was quantised.
        """
        layers = linear.layers(quantized.module)
        return self.ranked(quantized.graph, coupling, layers, _selves(layers))

    def ranked(
        self,
        graph: gs.Graph,
        coupling: Coupling,
        layers: Mapping[str, linear.Layer],
        quantized: Mapping[str, Tensor],
    ) -> dict[str, Ranking]:
        """Ranks every prunable group by `scores`, the largest first."""
        found = self.scores(graph, coupling, layers, quantized)
        return {n: alike(np.argsort(-s.numpy(), kind="stable")) for n, s in found.items()}

    def scores(
        self,
        graph: gs.Graph,
        coupling: Coupling,
        layers: Mapping[str, linear.Layer],
        quantized: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        """The score of every channel of the prunable groups.

        Args:
            graph: Where the layers stand.
            coupling: Of the graph.
            layers: With latent weights, by ONNX node.
            quantized: What the weights of those layers that are quantised are taken for, each of
                its weight's shape.

        Returns:
            Per group as many as it is wide; zeros where nothing quantised makes or reads it.
        """
        nodes = {n.name: n for n in graph.nodes}
        known = {n: layer for n, layer in layers.items() if n in quantized}
        found = {}
        for group in coupling.prunable:
            read, made = slices(group, nodes, known)
            parts = made if self.own else read or made
            each = [self._score(p, known[p.node], quantized[p.node]) for p in parts]
            nothing = torch.zeros(group.width, dtype=torch.float64)
            found[group.name] = torch.stack(each).mean(0) if each else nothing
        return found

    def _score(self, part: Slice, layer: linear.Layer, quantized: Tensor) -> Tensor:
        return self.measure(
            _kernels(part, layer, layer.weight.detach()), _kernels(part, layer, quantized)
        ).mean(1)


LOW_BIT: Mapping[str, LowBit] = {
    "angle": LowBit(angles, own=False),
    "angle-own": LowBit(angles, own=True),
    "distance": LowBit(distances, own=False),
    "distance-own": LowBit(distances, own=True),
}


def _selves(layers: Mapping[str, torch.nn.Module]) -> dict[str, Tensor]:
    found = {n: quantized_weight(layer) for n, layer in layers.items()}
    return {n: weight for n, weight in found.items() if weight is not None}


def _kernels(part: Slice, layer: linear.Layer, weight: Tensor) -> Tensor:
    """Of each channel: width x kernels x entries.

    Kernels of one weight, whose sign is all of its direction, are taken by the column that reads
    the channel (or the row that makes it) at once.
    """
    size = layer.weight[0, 0].numel()
    entries = part.of(weight.flatten(1))
    if size == 1:
        return entries
    if part.is_read:
        columns = entries.reshape(len(entries), -1, size, entries.shape[-1])
        return columns.movedim(2, -1).flatten(1, 2)
    return entries.reshape(len(entries), -1, size)
