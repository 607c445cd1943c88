"""Made-up activation ranges: enough to time a network whose activations nobody has seen yet."""

import math
from collections.abc import Mapping

import numpy as np
import onnx_graphsurgeon as gs

from hwprune.backend import Capabilities
from hwprune.graph.cost import output_axis
from hwprune.quantize.encodings import Encoding, Encodings, covering
from hwprune.quantize.placement import Placement, bounds, nonnegative, place, products

_SCALE = np.float32(0.05)


def placeholder_encodings(
    graph: gs.Graph,
    kernels: Mapping[str, str],
    capabilities: Capabilities,
    weight_bits: Mapping[str, int] | None = None,
    channel_bits: Mapping[str, tuple[int, ...]] | None = None,
) -> Encodings:
    """Encodings of everything that `lower` needs: right in form, arbitrary in range.

    `weight_bits` are per int8 node, `channel_bits` of each of its outputs in place of them; those
    left out get all that the target multiplies.
    """
    most, bits, each = capabilities.weight_bits, weight_bits or {}, channel_bits or {}
    placement = place(graph, kernels, capabilities)
    positive = nonnegative(graph)
    clipped = _clipped(graph, placement)
    activations = {
        tensor: clipped.get(tensor)
        or Encoding(np.asarray(_SCALE), np.asarray(0 if tensor in positive else 128))
        for tensor in placement.encoded
    }
    weights = {
        node.inputs[1].name: covering(
            node.inputs[1].values,
            output_axis(node),
            *_width([min(b, most) for b in each.get(node.name, [bits.get(node.name, most)])]),
        )
        for node in products(graph, placement)
    }
    return Encodings(activations, weights)


def _width(bits: list[int]) -> tuple[int, tuple[int, ...]]:
    """The most of them, and all where they differ."""
    return max(bits), tuple(bits) if len(set(bits)) > 1 else ()


def _clipped(graph: gs.Graph, placement: Placement) -> dict[str, Encoding]:
    """Ranges that end where a folded Clip does, as calibrated ones would: it is then left out."""
    folded = set(placement.folded.values())
    found = {}
    for node in graph.nodes:
        low, high = bounds(node) if node.name in folded else (0.0, math.inf)
        if math.isfinite(high - low):
            scale = np.asarray((high - low) / 255, np.float32)
            found[node.outputs[0].name] = Encoding(scale, np.asarray(round(-low / float(scale))))
    return found
