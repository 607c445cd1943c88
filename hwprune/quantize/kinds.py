"""How each weight is quantised: by kind, bits, and what has a scale of its own."""

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from hwprune.backend import Capabilities
from hwprune.errors import UsageError
from hwprune.quantize.placement import Placement, data_inputs, products

_MOST = 8  # bits of anything
_FULL = 7  # bits from which on clipping a weight costs more than it gains


@dataclass(frozen=True, slots=True)
class WeightKind:
    """A row of the table of quantisers (`hwprune.quantize.catalogue`), and its bits.

    Attributes:
        name: One of `hwprune methods`' weights.
        bits: 1 to 8; binary kinds have 1, ternary ones 2.
        granularity: "tensor", "channel" (outputs) or "group" (of inputs, for every output).
    """

    name: str
    bits: int
    granularity: str

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

    Raises UsageError for other bits.
    """
    most, wanted = capabilities.weight_bits, weight_bits or {}
    bits = {n.name: min(wanted.get(n.name, most), most) for n in products(graph, placement)}
    for name, count in bits.items():
        if not 1 <= count <= _MOST:
            raise UsageError(f"node {name!r} cannot have weights of {count} bits", "give 1 to 8")
    return {name: kind_of(b, capabilities.per_channel, low) for name, b in bits.items()}


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


def kind_of(bits: int, per_channel: bool, low: str | None = None) -> WeightKind:
    """How a weight of so many bits is quantised; low widths as `low` says."""
    name = "max" if bits >= _FULL else low or ("xnor" if bits == 1 else "mse")
    return WeightKind(name, bits, "channel" if per_channel else "tensor")
