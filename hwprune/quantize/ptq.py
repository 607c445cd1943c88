"""Post-training quantisation: choose ranges, round weights, correct biases."""

import copy
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from statistics import fmean

import onnx_graphsurgeon as gs
import torch
from torch import fx

from hwprune.backend import Capabilities
from hwprune.graph.read import clone
from hwprune.network.run import Data, Inputs, outputs, split
from hwprune.network.samples import affordable
from hwprune.network.twin import to_module, write_back
from hwprune.quantize.calibrate import best_ranges, observe, whole_ranges
from hwprune.quantize.checks import (
    check_encodings,
    check_ranges,
    check_samples,
    check_weights,
    exploding_channel,
    silent_channels,
)
from hwprune.quantize.encodings import Encodings
from hwprune.quantize.equalize import equalized
from hwprune.quantize.instrument import encodings_of, frozen_twin, instrument
from hwprune.quantize.kinds import activation_bits, weight_kinds
from hwprune.quantize.matrices import round_matrices
from hwprune.quantize.noise import sqnr_db
from hwprune.quantize.placement import Placement, place
from hwprune.quantize.quantizers import correcting_biases
from hwprune.quantize.ranges import Range, whole
from hwprune.quantize.rounding import round_weights

_BATCH = 64  # samples a forward pass
_VALUES = 1e8  # activations of one pass; ranges and biases settle well before that
_WEIGHED = 4e7  # of the pass whose errors are weighed


@dataclass(frozen=True, slots=True)
class Quantized:
    """A fake-quantised, trainable twin with what the lowering needs to write the same function."""

    module: fx.GraphModule
    encodings: Encodings
    graph: gs.Graph  # the network with the module's weights and corrected biases
    concerns: tuple[str, ...] = ()  # what may cost quality, by node or tensor


def quantize(
    graph: gs.Graph,
    kernels: Mapping[str, str],
    capabilities: Capabilities,
    x: Data,
    weight_bits: Mapping[str, int] | None = None,
    act_bits: Mapping[str, int] | None = None,
    kind: str | None = None,
    latent: bool = False,
    channel_bits: Mapping[str, tuple[int, ...]] | None = None,
) -> Quantized:
    """Quantises the nodes that `kernels` runs in int8, and rounds those that round for themselves.

    Every step is kept only if it brings the outputs on the calibration data nearer to the fp32
    network's (SQNR): channels equally wide between layers (where a weight has but one scale), the
    best range for each tensor instead of the whole one, weights below 8 bits rounded by GPTQ
    instead of to the nearest, corrected biases.

    Args:
        graph: Canonical graph; left unchanged.
        kernels: Per node name (see `hwprune.precision`); nodes left out run fp32.
        capabilities: Of the target.
        x: Calibration data, `N x ...` (a tuple where the network has several inputs); of it the
            first 256 samples are used, fewer (but 16) for a large network.
        weight_bits: 1 to 8 per node that runs in int8; nodes left out get all that the target has.
        act_bits: 1 to 8 per node that runs in int8, of what it reads; nodes left out read 8. A
            tensor has the most bits that any of its readers asks for.
        kind: Of the weights of few bits (`WeightKind.name`), if not the one that errs least.
        latent: Weights stay as they are behind their quantised selves, for training or to be
            ranked: GPTQ would write those over them.
        channel_bits: 2 to 8 for each output of a node, in place of its `weight_bits`.

    Raises:
        UsageError: Other bits.
        DataError: Too few samples, all the same, or a tensor that becomes NaN or infinite.
        ModelError: Weights that are NaN or infinite, or a scale that is.
    """
    x = affordable(graph, x, _VALUES, least=16, most=256)
    placement = place(graph, kernels, capabilities)
    check_samples(x)
    check_weights(graph, placement)
    kinds = weight_kinds(graph, placement, capabilities, weight_bits, kind, channel_bits)
    tensors = activation_bits(graph, placement, act_bits)
    concerns = _concerns(graph, placement, x)
    few = affordable(graph, x, _WEIGHED, least=8, most=128)

    def rounded(network: gs.Graph, ranges: Mapping[str, Range]) -> fx.GraphModule:
        module = instrument(network, placement, ranges, kinds, tensors)
        return round_matrices(module, network, kernels, capabilities)

    if not capabilities.per_channel:  # scales of their own make up for uneven channels, too
        graph = _equalized(graph, tensors, few, rounded)
    twin = to_module(graph)
    found = _Best(rounded(graph, whole_ranges(twin, x, tensors)), _quality(twin, x))
    found.offer(rounded(graph, best_ranges(twin, x, few, tensors)))
    low = {name for name, kind in kinds.items() if min((kind.bits, *kind.channels)) < 8}
    if low and not latent:
        found.offer(_rounded(found.module, x, low))
    found.offer(_corrected(found.module, x))
    return replace(read_out(found.module, graph), concerns=concerns)


def reread(quantized: Quantized) -> Quantized:
    """The same module after training: new weights, scales and zero points."""
    return read_out(quantized.module, quantized.graph)


def read_out(module: fx.GraphModule, graph: gs.Graph) -> Quantized:
    """What an instrumented twin of `graph` is now, with its weights in a graph of their own."""
    updated = clone(graph)
    write_back(module, updated)
    encodings = encodings_of(module)
    check_encodings(encodings)
    return Quantized(module, encodings, updated)


Quality = Callable[[fx.GraphModule], float]


def _quality(twin: fx.GraphModule, x: Inputs) -> Quality:
    """How near the outputs of a quantised network are to the twin's: mean SQNR, dB."""
    reference = outputs(twin, x)

    def quality(module: fx.GraphModule) -> float:
        pairs = zip(reference, outputs(frozen_twin(module), x), strict=True)
        return fmean(sqnr_db(exact, value) for exact, value in pairs)

    return quality


class _Best:
    """The best module so far."""

    def __init__(self, module: fx.GraphModule, quality: Quality) -> None:
        self.module, self.quality = module, quality
        self.score = quality(module)

    def offer(self, module: fx.GraphModule) -> None:
        """Takes `module` if it is better."""
        score = self.quality(module)
        if score > self.score:
            self.module, self.score = module, score


def _equalized(
    graph: gs.Graph,
    tensors: Collection[str],
    x: Inputs,
    rounded: Callable[[gs.Graph, Mapping[str, Range]], fx.GraphModule],
) -> gs.Graph:
    """The network with channels equally wide between layers, if that brings the outputs nearer."""
    other = equalized(graph)
    if other is None:
        return graph
    quality = _quality(to_module(graph), x)
    plain, even = (
        quality(rounded(g, whole_ranges(to_module(g), x, tensors))) for g in (graph, other)
    )
    return other if even > plain else graph


@torch.no_grad()
def _concerns(graph: gs.Graph, placement: Placement, x: Inputs) -> tuple[str, ...]:
    """What channels may cost quality. Raises DataError for values that are not finite."""
    twin = to_module(graph)
    seen = observe(twin, x, placement.encoded, lambda _, v: (whole(v), exploding_channel(v)))
    check_ranges({tensor: found for tensor, (found, _) in seen.items()})
    dwarfs = (f"tensor {tensor!r}: {why}" for tensor, (_, why) in seen.items() if why)
    return (*silent_channels(graph, placement), *dwarfs)


def _rounded(module: fx.GraphModule, x: Inputs, nodes: Collection[str]) -> fx.GraphModule:
    rounded = copy.deepcopy(module)
    round_weights(rounded, x, nodes)
    return rounded


def _corrected(module: fx.GraphModule, x: Inputs) -> fx.GraphModule:
    corrected = copy.deepcopy(module)
    with torch.no_grad(), correcting_biases(corrected):
        for batch in split(x, _BATCH):
            corrected(*batch)
    return corrected.eval()
