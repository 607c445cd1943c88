"""Estimated losses put on the scale of measured ones."""

from collections.abc import Mapping

import numpy as np
import onnx_graphsurgeon as gs
from torch import Tensor

from hwprune.graph.slim import slim
from hwprune.network.run import is_classifier, kl, outputs
from hwprune.network.twin import to_module
from hwprune.prune.criteria import Ranking
from hwprune.prune.reconstruct import Reference

_AT = 0.5  # share of a group's channels that is really cut to measure


def calibrate(
    graph: gs.Graph, rankings: Mapping[str, Ranking], reference: Reference, x: Tensor
) -> dict[str, Ranking]:
    """Scales every curve so that half its channels cost what they measurably do, after repair.

    A criterion orders channels well but takes errors at different positions as independent, which
    makes it far too hopeful. One slim, repaired candidate per group is run over `x`, best samples
    that the repair does not see; the loss is `divergence`.
    """
    before = outputs(to_module(graph), x)
    scaled = {}
    for name, ranking in rankings.items():
        cut = int(len(ranking.order) * _AT)
        keep = {name: np.sort(ranking.order[cut:])}
        slimmed = slim(graph, reference.coupling, keep)
        reference.reconstruct(slimmed, keep)
        measured = divergence(before, outputs(to_module(slimmed), x))
        factor = measured / ranking.error[cut] if ranking.error[cut] > 0 else 1.0
        scaled[name] = Ranking(ranking.order, ranking.error * factor)
    return scaled


def divergence(before: list[Tensor], after: list[Tensor]) -> float:
    """How far two networks' outputs are apart, per sample.

    KL divergence in nats for the logits (or probabilities) of one classifier; else half the squared
    error relative to the variance of each output, averaged.
    """
    if is_classifier(before):
        return max(0.0, kl(before[0], after[0]))
    pairs = zip(before, after, strict=True)
    errors = [float((a - b).square().mean() / a.var().clamp_min(1e-12)) for a, b in pairs]
    return 0.5 * sum(errors)
