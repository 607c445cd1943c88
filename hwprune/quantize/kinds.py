"""How each weight is quantised: by kind, bits, and what has a scale of its own."""

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from hwprune.backend import Capabilities
from hwprune.errors import UsageError
from hwprune.quantize.placement import Placement, products

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


def weight_kinds(
    graph: gs.Graph,
    placement: Placement,
    capabilities: Capabilities,
    weight_bits: Mapping[str, int] | None = None,
) -> dict[str, WeightKind]:
    """The kind of every int8 product, by node.

    Full widths keep the largest weight, low ones take the scale that errs least, and one bit is
    the sign with a scale (XNOR-Net).

    Args:
        graph: Canonical graph.
        placement: Where quantisers stand.
        capabilities: Of the target; none gets more bits than it can multiply.
        weight_bits: 1 to 8 per node; nodes left out get as many as the target can multiply.

    Raises UsageError for other bits.
    """
    most, wanted = capabilities.weight_bits, weight_bits or {}
    bits = {n.name: min(wanted.get(n.name, most), most) for n in products(graph, placement)}
    for name, count in bits.items():
        if not 1 <= count <= 8:
            raise UsageError(f"node {name!r} cannot have weights of {count} bits", "give 1 to 8")
    return {name: kind_of(b, capabilities.per_channel) for name, b in bits.items()}


def kind_of(bits: int, per_channel: bool) -> WeightKind:
    """How a weight of so many bits is quantised."""
    name = "xnor" if bits == 1 else "max" if bits >= _FULL else "mse"
    return WeightKind(name, bits, "channel" if per_channel else "tensor")
