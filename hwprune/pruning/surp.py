"""SuRP in structures: channels by what successive refinement of their norms gives them.

Isik et al. 2022 refine single weights, which saves no time. Here a magnitude is the norm of a
channel's slice of one tensor, in units of the mean of that tensor's slices, as the paper takes
tensors for samples of one source; magnitudes of the whole network are refined together. As an order
of all channels is asked for, refinement goes on until none lacks more than a 256th of a mean: what
a channel is given comes to the sum of its norms, each in the unit of its tensor.
"""

from collections.abc import Iterator

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from hwprune.codec.refining import ONE, normalised, refinements
from hwprune.graph.channels import ChannelGroup, Coupling
from hwprune.network.run import Data
from hwprune.pruning.ranking import Ranking, ranked

_FINEST = ONE // 256  # of a mean: thresholds below tell channels apart that hardly differ


def surp(graph: gs.Graph, coupling: Coupling, x: Data, seed: int) -> dict[str, Ranking]:
    """Share of what refinement gave to the group, summed over the weights of a channel."""
    norms = {g.name: list(_norms(graph, g)) for g in coupling.prunable}
    flat = [own for group in norms.values() for own in group]
    given = iter(np.split(_given(flat), np.cumsum([len(own) for own in flat])[:-1]) if flat else [])
    rankings = {}
    for group in coupling.prunable:
        scores = np.zeros(group.width)
        for _ in norms[group.name]:
            scores += next(given)
        rankings[group.name] = ranked(scores / max(scores.sum(), 1e-30))
    return rankings


def _norms(graph: gs.Graph, group: ChannelGroup) -> Iterator[NDArray[np.float64]]:
    """Of each channel's part of each weight; vectors (shifts, statistics) multiply nothing."""
    tensors = graph.tensors()
    for member in group.members:
        values = tensors[member.tensor].values
        if values.ndim > 1:
            rows = np.moveaxis(values, member.axis, 0)[member.positions]
            yield np.sqrt(np.square(rows, dtype=np.float64).reshape(group.width, -1).sum(1))


def _given(norms: list[NDArray[np.float64]]) -> NDArray[np.int64]:
    """V of all norms, one array behind the other."""
    whole = np.concatenate([normalised(own)[0] for own in norms])
    lacking = whole.copy()
    for walk in refinements(lacking):
        for _ in walk.blocks:
            pass  # going through them is what refines
        if walk.threshold <= _FINEST:
            break
    given: NDArray[np.int64] = (whole - lacking).astype(np.int64)
    return given
