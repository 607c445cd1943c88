"""The rewrites by name, in the order in which they are tried."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from hwprune.rewrites.activations import lift_rectifiers
from hwprune.rewrites.detours import drop_detours
from hwprune.rewrites.edit import Rewriting
from hwprune.rewrites.guards import drop_guards
from hwprune.rewrites.heads import split_heads
from hwprune.rewrites.means import pool_means
from hwprune.rewrites.neighbours import join_neighbours
from hwprune.rewrites.paddings import padded_to
from hwprune.rewrites.pairs import softmax_pairs
from hwprune.rewrites.parts import read_parts
from hwprune.rewrites.picks import pick_early
from hwprune.rewrites.rows import flatten_sequences
from hwprune.rewrites.scales import fold_scales
from hwprune.rewrites.shortcuts import convolve_shortcuts
from hwprune.rewrites.siblings import join_siblings
from hwprune.rewrites.transposes import join_transposes


@dataclass(frozen=True, slots=True)
class Rewrite:
    """One rewrite; `what` tells people what it does, `apply` yields a new graph.

    Where nothing applies, the new graph is like the old one.
    """

    name: str
    what: str
    apply: Rewriting


REWRITES = (
    Rewrite(
        "shortcuts", "sliced, padded shortcuts are strided 1x1 convolutions", convolve_shortcuts
    ),
    Rewrite("means", "means over the image are global average pools", pool_means),
    Rewrite("transposes", "transposes in a row are one, or none", join_transposes),
    Rewrite("activations", "rectifiers stand where a layer takes them in", lift_rectifiers),
    Rewrite("guards", "masks that hide nothing are left out", drop_guards),
    Rewrite("picks", "what is not picked at the end is not computed", pick_early),
    Rewrite("heads", "queries, keys and values are cut apart as blocks of heads", split_heads),
    Rewrite("neighbours", "a pointwise convolution is part of the one before", join_neighbours),
    Rewrite("siblings", "layers that read one tensor are one layer", join_siblings),
    Rewrite("scales", "weights hold the constant factors behind them", fold_scales),
    Rewrite("rows", "layers on sequences are layers on rows", flatten_sequences),
    Rewrite("parts", "slices of a concatenation read the part they take", read_parts),
    Rewrite("detours", "what works along the last axis is not reshaped for it", drop_detours),
    Rewrite("eights", "4 to 7 channels are 8, some of which nobody reads", padded_to(8)),
    Rewrite("sixteens", "8 to 15 channels are 16, some of which nobody reads", padded_to(16)),
    Rewrite("pairs", "a softmax of two is a sigmoid of their difference", softmax_pairs),
)


def rewritten(graph: gs.Graph, names: Collection[str]) -> gs.Graph:
    """The graph after the rewrites of these names, in the order of the table."""
    for rewrite in REWRITES:
        if rewrite.name in names:
            graph = rewrite.apply(graph)
    return graph


def alike(one: gs.Graph, other: gs.Graph) -> bool:
    """Whether two graphs consist of the same nodes, on tensors of the same names and shapes."""
    return [_described(node) for node in one.nodes] == [_described(n) for n in other.nodes]


def _described(node: gs.Node) -> tuple[Any, ...]:
    attributes = {k: np.asarray(v).tolist() if _is_listed(v) else v for k, v in node.attrs.items()}
    tensors = [[(t.name, _shape(t)) for t in side] for side in (node.inputs, node.outputs)]
    return node.name, node.op, attributes, tensors


def _shape(tensor: gs.Tensor) -> list[Any] | None:
    return None if tensor.shape is None else list(tensor.shape)


def _is_listed(value: Any) -> bool:
    return isinstance(value, (list, tuple, np.ndarray))
