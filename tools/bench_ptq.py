#!/usr/bin/env python3
"""Prints what post-training quantisation leaves of ResNet-20's accuracy on CIFAR-10.

    python tools/bench_ptq.py [--shared ../shared/data] [--bits 8 6 4 3 2] [--samples 256]

All weights have the same width, activations 8 bits, all layers included. Every column adds one step
to the one before it. A cell is top-1 on the 10,000 test images, which nothing is chosen by, and the
signal to noise of the outputs on the calibration images, which come from the training split.
"""

import argparse
import copy
import io
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx_graphsurgeon as gs
import torch
from PIL import Image
from torch import Tensor, fx

from hwprune.backend import Capabilities
from hwprune.frontend.models import load_model
from hwprune.network.run import inputs_of, outputs, split, top1
from hwprune.network.twin import to_module
from hwprune.quantize.calibrate import best_ranges
from hwprune.quantize.instrument import frozen_twin, instrument
from hwprune.quantize.kinds import WeightKind, activation_bits
from hwprune.quantize.noise import sqnr_db
from hwprune.quantize.placement import place, products
from hwprune.quantize.quantizers import correcting_biases
from hwprune.quantize.rounding import round_weights

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
INT8 = frozenset({"int8"})
OPS = ("Conv", "Gemm", "MatMul", "Add", "Concat", "GlobalAveragePool")
EVERYTHING = Capabilities(
    precisions=dict.fromkeys(OPS, INT8),
    activations={"int8": frozenset({"Relu", "Clip"})},
    residual_fused=frozenset(),
    passthrough=frozenset({"MaxPool", "Reshape", "Transpose", "Flatten"}),
)
COLUMNS = ("largest weight", "least error", "+ GPTQ", "+ bias correction")


def main() -> None:
    options = _options()
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    graph = load_model("resnet20", options.shared / "cifar10_resnet20.safetensors").graph
    calibration, _ = images(options.shared, "train", 1)
    x = calibration[: options.samples]
    test, labels = images(options.shared, "test", 10)
    twin = to_module(graph)
    exact = outputs(twin, x)[0]
    print(f"fp32: {top1(outputs(twin, test)[0], labels):.2%}; {len(x)} calibration images\n")
    print("| weights | " + " | ".join(COLUMNS) + " |\n|---|" + "--:|" * len(COLUMNS), flush=True)
    for bits in options.bits:
        print(f"| {bits} bits |", end="", flush=True)
        for module in map(frozen_twin, variants(graph, x, bits)):
            right = top1(outputs(module, test)[0], labels)
            noise = sqnr_db(exact, outputs(module, x)[0])
            print(f" {right:.2%}, {noise:.1f} dB |", end="", flush=True)
        print(flush=True)


def images(folder: Path, name: str, sheets: int) -> tuple[Tensor, Tensor]:
    """The first thousands of a split, normalised, N x 3 x 32 x 32, and their labels."""
    archive = np.load(folder / f"cifar10_{name}.npz")
    pixels = [np.asarray(Image.open(io.BytesIO(archive[f"sheet_{i:02d}"].tobytes())))
              for i in range(sheets)]  # fmt: skip
    cut = [p.reshape(40, 32, 25, 32, 3).swapaxes(1, 2).reshape(-1, 32, 32, 3) for p in pixels]
    x = ((np.concatenate(cut) / 255 - MEAN) / STD).astype(np.float32)
    labels = torch.from_numpy(archive["labels"][: len(x)].astype(np.int64))
    return torch.from_numpy(x.transpose(0, 3, 1, 2).copy()), labels


def variants(graph: gs.Graph, x: Tensor, bits: int) -> Iterator[fx.GraphModule]:
    """The network of each column."""
    placement = place(graph, {node.name: "int8" for node in graph.nodes}, EVERYTHING)
    samples = inputs_of(x)
    tensors = activation_bits(graph, placement)
    ranges = best_ranges(to_module(graph), samples, inputs_of(x, 128), tensors)
    nodes = [node.name for node in products(graph, placement)]
    for name in ("max", "mse"):
        kinds = dict.fromkeys(nodes, WeightKind(name, bits, "channel"))
        module = instrument(graph, placement, ranges, kinds, tensors)
        yield module
    module = copy.deepcopy(module)
    round_weights(module, samples, nodes)
    yield module
    with torch.no_grad(), correcting_biases(module):
        for batch in split(samples, 64):
            module(*batch)
    yield module.eval()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=SHARED)
    parser.add_argument("--bits", type=int, nargs="+", default=[8, 6, 4, 3, 2])
    parser.add_argument("--samples", type=int, default=256)
    return parser.parse_args()


if __name__ == "__main__":
    main()
