"""Post-training quantisation: calibrate, choose the range, correct the biases."""

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean

import onnx_graphsurgeon as gs
import torch
from torch import fx

from hwprune.backend import Capabilities
from hwprune.graph.read import clone
from hwprune.network.run import Data, Inputs, outputs, split
from hwprune.network.twin import to_module, write_back
from hwprune.quantize.encodings import Encodings
from hwprune.quantize.instrument import BATCH, calibrated, encodings_of
from hwprune.quantize.matrices import round_matrices
from hwprune.quantize.noise import sqnr_db
from hwprune.quantize.placement import place
from hwprune.quantize.quantizers import correcting_biases
from hwprune.quantize.samples import affordable

_PERCENTILES = (100.0, 99.99)
_VALUES = 1e8  # activations of one pass; ranges and biases settle well before that


@dataclass(frozen=True, slots=True)
class Quantized:
    """A fake-quantised, trainable twin with what the lowering needs to write the same function."""

    module: fx.GraphModule
    encodings: Encodings
    graph: gs.Graph  # the network with the module's weights and corrected biases


def quantize(
    graph: gs.Graph, kernels: Mapping[str, str], capabilities: Capabilities, x: Data
) -> Quantized:
    """Quantises the nodes that `kernels` runs in int8, and rounds those that round for themselves.

    Activation ranges are whole or cut at the 99.99th percentile, bias correction is used or not:
    whatever brings the outputs on the calibration data nearest to the fp32 network's (SQNR).

    Args:
        graph: Canonical graph; left unchanged.
        kernels: Per node name (see `hwprune.precision`); nodes left out run fp32.
        capabilities: Of the target.
        x: Calibration data, `N x ...` (a tuple where the network has several inputs); of it the
            first 256 samples are used, fewer (but 16) for a large network.
    """
    x = affordable(graph, x, _VALUES, least=16, most=256)
    placement = place(graph, kernels, capabilities)
    reference = outputs(to_module(graph), x)

    def quality(module: fx.GraphModule) -> float:
        pairs = zip(reference, outputs(module, x), strict=True)
        return fmean(sqnr_db(exact, value) for exact, value in pairs)

    ranges = (
        round_matrices(module, graph, kernels, capabilities)
        for module in (calibrated(graph, placement, capabilities, x, p) for p in _PERCENTILES)
    )
    plain, score = _best(ranges, quality)
    corrected = _corrected(plain, x)
    return _read(corrected if quality(corrected) > score else plain, graph)


def reread(quantized: Quantized) -> Quantized:
    """The same module after training: new weights, scales and zero points."""
    return _read(quantized.module, quantized.graph)


def _read(module: fx.GraphModule, graph: gs.Graph) -> Quantized:
    updated = clone(graph)
    write_back(module, updated)
    return Quantized(module, encodings_of(module), updated)


def _corrected(module: fx.GraphModule, x: Inputs) -> fx.GraphModule:
    corrected = copy.deepcopy(module)
    with torch.no_grad(), correcting_biases(corrected):
        for batch in split(x, BATCH):
            corrected(*batch)
    return corrected.eval()


def _best(
    candidates: Iterable[fx.GraphModule], quality: Callable[[fx.GraphModule], float]
) -> tuple[fx.GraphModule, float]:
    scored = [(module, quality(module)) for module in candidates]
    return max(scored, key=lambda pair: pair[1])
