"""How each weight is quantised: by kind, bits, and what has a scale of its own."""

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from hwprune.backend import Capabilities
from hwprune.errors import UsageError
from hwprune.graph.cost import output_axis
from hwprune.quantize.placement import Placement, data_inputs, products

_MOST = 8  # bits of anything
_FEWEST = 2  # bits of one output among others: a sign has no zero
_FULL = 7  # bits from which on clipping a weight costs more than it gains


@dataclass(frozen=True, slots=True)
class WeightKind:
    """A row of the table of quantisers (`hwprune.quantize.catalogue`), and its bits.

    Attributes:
        name: One of `hwprune methods`' weights.
        bits: 1 to 8; binary kinds have 1, ternary ones 2.
        granularity: "tensor", "channel" (outputs) or "group" (of inputs, for every output).
        channels: Bits of each output, 2 to 8, where they differ; `bits` are then the most of them.
    """

    name: str
    bits: int
    granularity: str
    channels: tuple[int, ...] = ()

    @property
    def absorbs_factors(self) -> bool:
        """Whether the scales can take up any factor on each output of a layer."""
        return self.granularity != "tensor" and self.name != "power-of-two"

    @property
    def scales_apart(self) -> bool:
        """Whether scales have nothing to do with how large the latent weights are."""
        return self.name == "dorefa"


def weight_kinds(
    graph: gs.Graph,
    placement: Placement,
    capabilities: Capabilities,
    weight_bits: Mapping[str, int] | None = None,
    low: str | None = None,
    channel_bits: Mapping[str, tuple[int, ...]] | None = None,
) -> dict[str, WeightKind]:
    """The kind of every int8 product, by node.

    Full widths keep the largest weight, low ones take the scale that errs least, and one bit is
    the sign with a scale (XNOR-Net).

    Args:
        graph: Canonical graph.
        placement: Where quantisers stand.
        capabilities: Of the target; none gets more bits than it can multiply.
        weight_bits: 1 to 8 per node; nodes left out get as many as the target can multiply.
        low: Kind of low widths, if it shall be another one.
        channel_bits: 2 to 8 for each output of a node, in place of its `weight_bits`.

    Raises UsageError for other bits, or bits of other channels than a node has.
    """
    most, wanted = capabilities.weight_bits, weight_bits or {}
    bits = {n.name: min(wanted.get(n.name, most), most) for n in products(graph, placement)}
    for name, count in bits.items():
        if not 1 <= count <= _MOST:
            raise UsageError(f"node {name!r} cannot have weights of {count} bits", "give 1 to 8")
    kinds = {name: kind_of(b, capabilities.per_channel, low) for name, b in bits.items()}
    for node in products(graph, placement):
        if node.name in (channel_bits or {}):
            each = tuple(min(b, most) for b in (channel_bits or {})[node.name])
            _check_channels(node, each, capabilities)
            kinds[node.name] = kind_of_channels(each)
    return kinds


def activation_bits(
    graph: gs.Graph, placement: Placement, act_bits: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Bits of every quantised tensor: the most that an int8 node asks for which reads it.

    Args:
        graph: Canonical graph.
        placement: Where quantisers stand.
        act_bits: 1 to 8 per node, of what it reads; nodes left out read 8.

    Raises UsageError for other bits.
    """
    wanted, found = act_bits or {}, dict.fromkeys(placement.encoded, 0)
    for node, count in wanted.items():
        if not 1 <= count <= _MOST:
            raise UsageError(f"node {node!r} cannot read {count} bits", "give 1 to 8")
    for node in graph.nodes:
        for tensor in data_inputs(node) if node.name in placement.nodes else ():
            root = placement.root(tensor.name)
            found[root] = max(found[root], wanted.get(node.name, _MOST))
    return {tensor: bits or _MOST for tensor, bits in found.items()}


def kind_of_channels(bits: tuple[int, ...]) -> WeightKind:
    """How a weight is quantised of which every output has bits of its own."""
    if len(set(bits)) == 1:
        return kind_of(bits[0], per_channel=True)
    return WeightKind("mse", max(bits), "channel", bits)


def _check_channels(node: gs.Node, bits: tuple[int, ...], capabilities: Capabilities) -> None:
    channels = node.inputs[1].shape[output_axis(node)]
    if len(bits) != channels:
        raise UsageError(f"node {node.name!r} has {channels} outputs, and bits for {len(bits)}")
    if not all(_FEWEST <= b <= _MOST for b in bits):
        raise UsageError(f"an output of node {node.name!r} has {min(bits)} bits", "give 2 to 8")
    if not capabilities.per_channel:
        raise UsageError("the target's weights have one scale each, so their outputs have no bits")


def kind_of(bits: int, per_channel: bool, low: str | None = None) -> WeightKind:
    """How a weight of so many bits is quantised; low widths as `low` says."""
    name = "max" if bits >= _FULL else low or ("xnor" if bits == 1 else "mse")
    return WeightKind(name, bits, "channel" if per_channel else "tensor")
