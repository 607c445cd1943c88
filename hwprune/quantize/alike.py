"""Another network quantised as one is already: the same kinds, and ranges that were learned."""

from collections.abc import Mapping

import onnx_graphsurgeon as gs

from hwprune.backend import Capabilities
from hwprune.network import linear
from hwprune.quantize.encodings import Encoding
from hwprune.quantize.instrument import instrument
from hwprune.quantize.placement import place
from hwprune.quantize.ptq import Quantized, read_out
from hwprune.quantize.quantizers import weight_kind
from hwprune.quantize.ranges import Range


def quantized_alike(
    graph: gs.Graph, model: Quantized, kernels: Mapping[str, str], capabilities: Capabilities
) -> Quantized:
    """Quantises a graph of the same nodes and tensors, of any widths, as `model` is.

    Weights are not rounded and biases not corrected: a network that was trained in few bits is
    another one than its latent weights make in fp32, which `hwprune.quantize.ptq.quantize` would
    bring it nearer to. Scales of weights follow from the weights anew.

    Args:
        graph: Canonical graph; left unchanged.
        model: What `kernels` and `capabilities` were given to.
        kernels: Per node name; nodes left out run fp32.
        capabilities: Of the target.
    """
    placement = place(graph, kernels, capabilities)
    paths = linear.paths(model.module).items()
    found = {node: weight_kind(model.module.get_submodule(path)) for node, path in paths}
    kinds = {node: kind for node, kind in found.items() if kind is not None}
    ranges = {tensor: _range(e) for tensor, e in model.encodings.activations.items()}
    bits = {tensor: e.bits for tensor, e in model.encodings.activations.items()}
    return read_out(instrument(graph, placement, ranges, kinds, bits), graph)


def _range(encoding: Encoding) -> Range:
    """Of an encoding of a whole tensor."""
    low, high = (
        float(encoding.scale) * (end - int(encoding.zero_point))
        for end in (encoding.lowest, encoding.highest)
    )
    return Range(low, high)
