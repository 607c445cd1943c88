"""Which entries of which weight matrices belong to the channels of a group."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs
import torch
from torch import Tensor

from hwprune.graph.channels import ChannelGroup
from hwprune.graph.cost import output_axis, weight_input
from hwprune.network import linear


@dataclass(frozen=True, slots=True)
class Slice:
    """One layer's part in a group.

    `index` (width x n) holds the columns that read each channel, or the rows that make it, of the
    layer's weight as outputs x columns.
    """

    node: str
    index: Tensor
    is_read: bool

    def of(self, matrix: Tensor) -> Tensor:
        """Width x n x the other axis: the entries of each channel."""
        return (matrix.T if self.is_read else matrix)[self.index]


def columns_read(group: ChannelGroup, node: gs.Node, layer: linear.Layer) -> Tensor | None:
    """The columns of the layer's weight that read each channel (width x n).

    None where the layer reads none of them by a plain product.
    """
    if linear.groups(layer) > 1:
        return None
    positions = _positions(group, node, 1 - output_axis(node))
    kernel = layer.weight[0, 0].numel()
    if positions is None:
        return None
    flat = (positions[:, :, None] * kernel + np.arange(kernel)).reshape(len(positions), -1)
    return torch.as_tensor(flat)


def rows_made(group: ChannelGroup, node: gs.Node) -> Tensor | None:
    """The rows of the node's weight that make each channel (width x n), or None."""
    positions = _positions(group, node, output_axis(node))
    return None if positions is None else torch.as_tensor(positions)


def slices(
    group: ChannelGroup, nodes: Mapping[str, gs.Node], layers: Mapping[str, linear.Layer]
) -> tuple[list[Slice], list[Slice]]:
    """The layers that read a group by plain products, and those that make it."""
    read = [
        Slice(n, found, is_read=True)
        for n in group.consumers
        if n in layers and (found := columns_read(group, nodes[n], layers[n])) is not None
    ]
    made = [
        Slice(n, found, is_read=False)
        for n in group.producers
        if n in layers and (found := rows_made(group, nodes[n])) is not None
    ]
    return read, made


def _positions(group: ChannelGroup, node: gs.Node, axis: int) -> np.ndarray | None:
    name = node.inputs[weight_input(node)].name
    found = [m.positions for m in group.members if m.tensor == name and m.axis == axis]
    return np.concatenate(found, 1) if found else None
