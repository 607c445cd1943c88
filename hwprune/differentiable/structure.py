"""What a search for bits needs to know of a network: its products, and whose channels they share.

All channels that may go stand in one row, group by group, and behind them one that always stays.
Axes of weights and activations are described by indices into that row.
"""

from dataclasses import dataclass, field
from math import prod

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from hwprune.graph.channels import ChannelGroup, Coupling
from hwprune.graph.cost import input_axis, node_macs, output_axis, weight_input

Index = NDArray[np.int64]  # positions x k: a position stays if all k places of the row do


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """A layer whose outputs choose their bits.

    Attributes:
        node: Its ONNX node.
        bits: The options, ascending, without 0.
        kernel: Weights that one output has for one input.
        positions: Times that each weight is used for one sample.
        side: Lengths of an output, (1, 1) unless it is an image.
        biased: Whether it has a bias.
        makes: The row's places of its outputs.
        reads: Those of its inputs, of one block if it is grouped.
    """

    node: str
    bits: tuple[int, ...]
    kernel: int
    positions: int
    side: tuple[int, int]
    biased: bool
    makes: Index
    reads: Index

    @property
    def outputs(self) -> int:
        """How many there are, before any goes."""
        return len(self.makes)


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """The channels that may go: of every group that is not frozen, unless nothing may go."""

    coupling: Coupling
    groups: tuple[ChannelGroup, ...]
    starts: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        ends = np.cumsum([0, *(group.width for group in self.groups)])
        starts = {g.name: int(end) for g, end in zip(self.groups, ends, strict=False)}
        object.__setattr__(self, "starts", starts)

    @property
    def always(self) -> int:
        """The place of what always stays: the last one."""
        return sum(group.width for group in self.groups)

    def of_weight(self, tensor: str, axis: int, length: int) -> Index:
        """Along one axis of an initializer."""
        columns = [np.full(length, self.always)]
        for group in self.groups:
            for member in group.members:
                if (member.tensor, member.axis) == (tensor, axis):
                    places = self.starts[group.name] + np.arange(group.width)
                    columns.append(np.append(places, self.always)[member.channels(length)])
        return np.stack(columns, 1)

    def of_activation(self, tensor: str, axis: int) -> Index | None:
        """Along one axis of an activation; None where nothing may go."""
        layout = self.coupling.layout(tensor, axis)
        if layout is None:
            return None
        starts = np.array([self.starts.get(g.name, -1) for g in self.coupling.groups] + [-1])
        start = starts[layout.group]
        found = np.where(start < 0, self.always, start + layout.channel)
        return None if bool(np.all(found == self.always)) else found


def product_of(node: gs.Node, bits: tuple[int, ...], row: Row) -> Product:
    """What is to be known of a node with a constant weight on its right."""
    weight = node.inputs[1]
    made, read = output_axis(node), input_axis(node)
    shape, out = weight.shape, node.outputs[0].shape
    macs = node_macs(node) // max(1, int(node.inputs[0].shape[0]))
    side = (int(out[2]), int(out[3])) if node.op == "Conv" and len(out) == 4 else (1, 1)
    return Product(
        node.name,
        bits,
        prod(shape) // (shape[made] * shape[read]),
        max(1, macs // prod(shape)),
        side,
        len(node.inputs) > 2 and bool(node.inputs[2].name),
        row.of_weight(weight.name, made, shape[made]),
        row.of_weight(weight.name, read, shape[read]),
    )


def summed_input(node: gs.Node) -> tuple[int, int] | None:
    """Which input of a node is activations that it sums over, and along which axis.

    None for nodes that treat each channel by itself, depthwise convolutions included.
    """
    if node.op in ("Conv", "ConvTranspose"):
        return None if node.attrs.get("group", 1) == node.inputs[0].shape[1] else (0, 1)
    if node.op == "Gemm":
        return (0, 1)
    if node.op != "MatMul" or min(len(t.shape) for t in node.inputs) < 2:
        return None
    data = 1 if weight_input(node) == 0 else 0
    return data, len(node.inputs[data].shape) - 1 - data
