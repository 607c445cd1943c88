"""Puts quantisers into a twin: on the very tensors and weights that the lowering quantises."""

from collections.abc import Mapping
from typing import cast

import onnx_graphsurgeon as gs
import torch
from torch import fx

from hwprune.backend import Capabilities
from hwprune.graph.cost import output_axis
from hwprune.network.run import Data, split
from hwprune.network.twin import to_module
from hwprune.quantize.encodings import Encodings
from hwprune.quantize.placement import Placement, nonnegative, products
from hwprune.quantize.quantizers import (
    activation_encoding,
    activation_quantizer,
    calibrating,
    quantized_layer,
    weight_encoding,
)

BATCH = 64  # samples a forward pass; ranges are averaged over the passes


def instrument(
    graph: gs.Graph, placement: Placement, capabilities: Capabilities, percentile: float
) -> fx.GraphModule:
    """The twin of `graph` with uncalibrated quantisers; its parameters keep their paths.

    A quantised tensor is called in `meta["tensor"]` as in the lowered file: behind an int8 node
    the quantised value takes the tensor's name, before one it is `<tensor>/dequantized`.
    """
    module = to_module(graph)
    _quantize_layers(module, graph, placement, capabilities)
    _quantize_tensors(module, graph, placement, percentile)
    module.recompile()
    return module


def calibrated(
    graph: gs.Graph,
    placement: Placement,
    capabilities: Capabilities,
    x: Data,
    percentile: float = 100,
) -> fx.GraphModule:
    """The instrumented twin with ranges that cover `percentile` per cent of what `x` causes."""
    module = instrument(graph, placement, capabilities, percentile)
    with torch.no_grad(), calibrating(module):
        for batch in split(x, BATCH):
            module(*batch)
    return module.eval()


def encodings_of(module: fx.GraphModule) -> Encodings:
    """Reads the scales and zero points out of an instrumented, calibrated module."""
    quantizers = cast("Mapping[str, str]", module.meta["quantizers"])
    layers = cast("Mapping[str, tuple[str, int]]", module.meta["quantized_weights"])
    return Encodings(
        {t: activation_encoding(module.get_submodule(path)) for t, path in quantizers.items()},
        {w: weight_encoding(module.get_submodule(p), axis) for w, (p, axis) in layers.items()},
    )


def _quantize_layers(
    module: fx.GraphModule, graph: gs.Graph, placement: Placement, capabilities: Capabilities
) -> None:
    """Replaces the layers of int8 nodes; the quantised weights are listed in the module's meta."""
    paths = {n.meta["node"]: str(n.target) for n in module.graph.nodes if n.op == "call_module"}
    weights: dict[str, tuple[str, int]] = {}
    for node in products(graph, placement):
        path = paths[node.name]
        layer = module.get_submodule(path)
        bits, per_channel = capabilities.weight_bits, capabilities.per_channel
        module.set_submodule(path, quantized_layer(layer, bits, per_channel))
        weights[node.inputs[1].name] = (path, output_axis(node))
    module.meta["quantized_weights"] = weights


def _quantize_tensors(
    module: fx.GraphModule, graph: gs.Graph, placement: Placement, percentile: float
) -> None:
    positive = nonnegative(graph)
    values = {n.meta["tensor"]: n for n in module.graph.nodes if n.meta["tensor"]}
    paths: dict[str, str] = {}
    for number, tensor in enumerate(placement.encoded):
        paths[tensor] = f"quantizer_{number}"
        quantizer = activation_quantizer(tensor in positive, percentile)
        module.add_submodule(paths[tensor], quantizer)
        _insert(module.graph, values[tensor], paths[tensor], placement)
    module.meta["quantizers"] = paths


def _insert(graph: fx.Graph, value: fx.Node, path: str, placement: Placement) -> None:
    tensor = value.meta["tensor"]
    made = tensor in placement.made
    with graph.inserting_after(value):
        quantized = graph.call_module(path, (value,))
    value.replace_all_uses_with(
        quantized,
        lambda user: user is not quantized and (made or user.meta["node"] in placement.nodes),
    )
    value.meta["tensor"] = f"{tensor}/raw" if made else tensor
    quantized.meta |= {"tensor": tensor if made else f"{tensor}/dequantized", "node": ""}
