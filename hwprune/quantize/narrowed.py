"""A quantised network with fewer channels: the same kinds, and the ranges and scales it learned."""

from collections.abc import Mapping

import numpy as np
import onnx_graphsurgeon as gs
import torch
from torch import Tensor, fx

from hwprune.backend import Capabilities
from hwprune.graph.channels import Coupling, Keep
from hwprune.graph.cost import output_axis
from hwprune.graph.slim import slim
from hwprune.network import linear
from hwprune.quantize.encodings import Encoding
from hwprune.quantize.instrument import instrument
from hwprune.quantize.placement import place
from hwprune.quantize.ptq import Quantized, read_out
from hwprune.quantize.quantizers import weight_kind, weight_scales
from hwprune.quantize.ranges import Range


def narrowed(
    whole: Quantized,
    coupling: Coupling,
    keep: Keep,
    kernels: Mapping[str, str],
    capabilities: Capabilities,
) -> Quantized:
    """Cuts channels out of a network that is quantised already, maybe trained so.

    Nothing is rounded or corrected anew: such a network is another one than its latent weights make
    in fp32, which `hwprune.quantize.ptq.quantize` would bring it nearer to. Scales that follow from
    the weights (max, XNOR-Net's) follow from those that stay.

    Args:
        whole: The network; left unchanged.
        coupling: Of its graph.
        keep: Channels that stay, per group that is narrowed.
        kernels: Those that it was quantised with.
        capabilities: Likewise.

    Raises:
        UsageError, InfeasibleError: see `hwprune.graph.slim.slim`.
    """
    graph = slim(whole.graph, coupling, keep)
    placement = place(graph, kernels, capabilities)
    paths = linear.paths(whole.module).items()
    found = {node: weight_kind(whole.module.get_submodule(path)) for node, path in paths}
    kinds = {node: kind for node, kind in found.items() if kind is not None}
    ranges = {tensor: _range(e) for tensor, e in whole.encodings.activations.items()}
    bits = {tensor: e.bits for tensor, e in whole.encodings.activations.items()}
    module = instrument(graph, placement, ranges, kinds, bits)
    for node in whole.graph.nodes:
        if node.name in kinds:
            _take_scales(module, whole.module, node, _outputs(node, coupling, keep))
    return read_out(module, graph)


@torch.no_grad()
def _take_scales(
    module: fx.GraphModule, whole: fx.GraphModule, node: gs.Node, outputs: Tensor
) -> None:
    """The scales of a layer's own, of the outputs that stay."""
    ours, theirs = (m.get_submodule(linear.paths(m)[node.name]) for m in (module, whole))
    for scale, before in zip(weight_scales(ours), weight_scales(theirs), strict=True):
        alone = before.numel() == 1
        scale.copy_(before if alone else before.index_select(output_axis(node), outputs))


def _outputs(node: gs.Node, coupling: Coupling, keep: Keep) -> Tensor:
    """Which outputs of a node stay."""
    weight, axis = node.inputs[1], output_axis(node)
    stays = np.ones(weight.shape[axis], bool)
    for group in coupling.groups:
        gone = np.setdiff1d(np.arange(group.width), keep.get(group.name, np.arange(group.width)))
        for member in group.members:
            if (member.tensor, member.axis) == (weight.name, axis):
                stays[member.positions[gone]] = False
    return torch.from_numpy(np.flatnonzero(stays))


def _range(encoding: Encoding) -> Range:
    """Of an encoding of a whole tensor."""
    low, high = (
        float(encoding.scale) * (end - int(encoding.zero_point))
        for end in (encoding.lowest, encoding.highest)
    )
    return Range(low, high)
