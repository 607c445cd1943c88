"""Puts quantisers into a twin: on the very tensors and weights that the lowering quantises."""

import copy
from collections.abc import Mapping
from typing import cast

import onnx_graphsurgeon as gs
from torch import fx

from hwprune.graph.cost import output_axis
from hwprune.network import linear
from hwprune.network.twin import to_module
from hwprune.quantize.encodings import Encodings
from hwprune.quantize.kinds import WeightKind
from hwprune.quantize.placement import Placement, nonnegative, products
from hwprune.quantize.quantizers import (
    activation_encoding,
    activation_module,
    frozen,
    quantized_layer,
    weight_encoding,
)
from hwprune.quantize.ranges import Range


def instrument(
    graph: gs.Graph,
    placement: Placement,
    ranges: Mapping[str, Range],
    weights: Mapping[str, WeightKind],
    tensors: Mapping[str, int],
) -> fx.GraphModule:
    """The twin of `graph` with quantisers; its parameters keep their paths.

    A quantised tensor is called in `meta["tensor"]` as in the lowered file: behind an int8 node
    the quantised value takes the tensor's name, before one it is `<tensor>/dequantized`.

    Args:
        graph: Canonical graph; left unchanged.
        placement: Where quantisers stand.
        ranges: What they cover, per tensor with an encoding of its own.
        weights: How the weight of each int8 product is quantised, by node.
        tensors: Bits of those with an encoding of their own.
    """
    module = to_module(graph)
    _quantize_layers(module, graph, placement, weights)
    _quantize_tensors(module, graph, ranges, tensors, placement)
    module.recompile()
    return module.eval()


def frozen_twin(module: fx.GraphModule) -> fx.GraphModule:
    """A copy of an instrumented twin that computes the same several times as fast."""
    copied = copy.deepcopy(module)
    layers = [path for path, _ in module.meta["quantized_weights"].values()]
    for path in (*layers, *module.meta["quantizers"].values()):
        copied.set_submodule(path, frozen(module.get_submodule(path)))
    return copied


def encodings_of(module: fx.GraphModule) -> Encodings:
    """Reads the scales and zero points out of an instrumented, calibrated module."""
    quantizers = cast("Mapping[str, str]", module.meta["quantizers"])
    layers = cast("Mapping[str, tuple[str, int]]", module.meta["quantized_weights"])
    return Encodings(
        {t: activation_encoding(module.get_submodule(path)) for t, path in quantizers.items()},
        {w: weight_encoding(module.get_submodule(p), axis) for w, (p, axis) in layers.items()},
    )


def _quantize_layers(
    module: fx.GraphModule,
    graph: gs.Graph,
    placement: Placement,
    weights: Mapping[str, WeightKind],
) -> None:
    """Replaces the layers of int8 nodes; the quantised weights are listed in the module's meta."""
    paths = linear.paths(module)
    found: dict[str, tuple[str, int]] = {}
    for node in products(graph, placement):
        path = paths[node.name]
        layer = quantized_layer(module.get_submodule(path), weights[node.name])
        module.set_submodule(path, layer)
        found[node.inputs[1].name] = (path, output_axis(node))
    module.meta["quantized_weights"] = found


def _quantize_tensors(
    module: fx.GraphModule,
    graph: gs.Graph,
    ranges: Mapping[str, Range],
    tensors: Mapping[str, int],
    placement: Placement,
) -> None:
    positive = nonnegative(graph)
    values = {n.meta["tensor"]: n for n in module.graph.nodes if n.meta["tensor"]}
    paths: dict[str, str] = {}
    for number, (tensor, bits) in enumerate(tensors.items()):
        paths[tensor] = f"quantizer_{number}"
        covered = ranges[tensor]
        quantizer = activation_module(tensor in positive, covered.low, covered.high, bits)
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
