#!/usr/bin/env python3
"""Bits of weights against accuracy: one width for all layers, and mixed widths of the same bytes.

    python tools/bench_bits.py [--network resnet20] [--bits 8 6 4 3 2] [--qat IMAGES]
                               [--act-bits 8] [--kind slb] [--shared ../shared/data]

All convolutions and products run in int8 with activations of 8 bits (or `--act-bits`, but for the
image); only what their weights are stored in differs. Mixed widths are what the decoder of
`compile` finds for the bytes of the uniform file, from losses measured layer by layer ("kl") or
estimated ("trace"); "searched" is the best of several such allocations, the uniform one among them,
by the divergence of the rounded network on training images that took no part, as the search of
`compile` judges candidates. Top-1 is that of the written file on the 10,000 test images, which
nothing is chosen by, and so is the divergence from the fp32 network's answers (KL, thousandths of a
nat), which tells apart what top-1 cannot.
`--qat` adds one pass of quantisation-aware training over so many training images to every row,
with the weight quantiser that `--kind` names (see `hwprune methods`).
"""

import argparse
import warnings
from collections.abc import Mapping
from math import inf
from pathlib import Path

import numpy as np
import onnx_graphsurgeon as gs
import torch
from bench_ptq import EVERYTHING, images

from hwprune.export.lower import lower
from hwprune.export.storage import stored_bytes
from hwprune.frontend.dataset import DataSet
from hwprune.frontend.models import load_model
from hwprune.network.run import inputs_of, kl, outputs, top1
from hwprune.network.twin import to_module
from hwprune.precision import FULL_BITS
from hwprune.quantize.encodings import levels_of
from hwprune.quantize.fewbits import round_in_place
from hwprune.quantize.placement import place, products
from hwprune.quantize.ptq import quantize
from hwprune.search.decode import Decoder
from hwprune.search.problem import Bound, Factor, Problem, Variable
from hwprune.stages.losses import SENSITIVITIES
from hwprune.train.qat import qat
from hwprune.train.recipe import Recipe
from hwprune.verify.outputs import file_outputs

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
WIDTHS = (1, 2, 3, 4, 5, 8)
TABLES = 1000  # bytes of what decodes widths that the uniform file has not
POWERS = (0.7, 1.5, 2.0)
CALIBRATION, HELD_OUT = 1000, 2000  # images; those of the training come behind them
Bits = Mapping[str, int]
Losses = Mapping[str, Mapping[int, float]]


def main() -> None:
    options = _options()
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    weights = options.shared / f"cifar10_{options.network}.safetensors"
    graph = load_model(options.network, weights).graph
    first = CALIBRATION + HELD_OUT
    train, labels = images(options.shared, "train", -(-(first + options.qat) // 1000))
    x, held_out = train[: options.samples], train[CALIBRATION:first]
    data = DataSet(train[first:].numpy(), labels[first:].numpy())
    test, answers = images(options.shared, "test", 10)
    shapes = products_of(graph)
    image = graph.inputs[0].name
    inner = [node.name for node in graph.nodes if node.inputs[0].name != image]
    act_bits = dict.fromkeys(inner, options.act_bits)
    losses = {
        name: measure(graph, dict.fromkeys(shapes, WIDTHS), True, x)
        for name, measure in SENSITIVITIES.items()
    }

    def judged(bits: Bits) -> str:
        """Bytes, top-1 and divergence of the file."""
        kernels = dict.fromkeys((node.name for node in graph.nodes), "int8")
        found = quantize(graph, kernels, EVERYTHING, x, bits, act_bits, options.kind)
        if options.qat:
            found = qat(found, graph, data, Recipe(1), 0)
        file = lower(found.graph, kernels, found.encodings, EVERYTHING).SerializeToString()
        found_outputs = file_outputs(file, test.numpy(), 2)[0]
        right, lost = 100 * top1(found_outputs, answers), 1e3 * kl(expected, found_outputs)
        return f"{len(file) / 1e3:.1f} kB, {right:.2f} %, {lost:.2f}"

    twin = to_module(graph)
    exact, expected = outputs(twin, held_out)[0], outputs(twin, test)[0]

    def divergence(bits: Bits) -> float:
        """Of the network with its weights rounded, on images that took no part."""
        few = {node: b for node, b in bits.items() if b < FULL_BITS}
        twin = round_in_place(to_module(graph), few, True, inputs_of(x))
        return kl(exact, outputs(twin, held_out)[0])

    print(f"| uniform | alone | {' | '.join(f'by {n}' for n in losses)} | searched |")
    print("|---|--:|" + "--:|" * (len(losses) + 1))
    for width in options.bits:
        uniform = dict.fromkeys(shapes, width)
        most = sum(stored(shape, width) for shape in shapes.values())
        found = {n: allocated(shapes, loss, most - TABLES) for n, loss in losses.items()}
        tried = [uniform, *found.values()]
        tried += [allocated(shapes, tilted(loss, power), most - TABLES)
                  for loss in losses.values() for power in POWERS]  # fmt: skip
        shown = [uniform, *found.values(), min(tried, key=divergence)]
        files = {str(bits): bits for bits in shown}  # the best is often one of the others
        cells = {key: judged(bits) for key, bits in files.items()}
        print(f"| {width} bits | {' | '.join(cells[str(bits)] for bits in shown)} |", flush=True)


def products_of(graph: gs.Graph) -> dict[str, tuple[int, ...]]:
    """Nodes with quantised weights, and the shapes of these."""
    placement = place(graph, {node.name: "int8" for node in graph.nodes}, EVERYTHING)
    return {n.name: tuple(n.inputs[1].shape) for n in products(graph, placement)}


def stored(shape: tuple[int, ...], bits: int) -> int:
    """Bytes in the file."""
    return stored_bytes(int(np.prod(shape)), len(levels_of(bits)))


def allocated(shapes: Mapping[str, tuple[int, ...]], losses: Losses, most: float) -> Bits:
    """The widths of least estimated loss in so many bytes."""
    variables = tuple(Variable(f"bits:{n}", len(WIDTHS)) for n in shapes)
    loss = tuple(_factor(n, [losses[n][b] for b in WIDTHS]) for n in shapes)
    size = tuple(_factor(n, [stored(s, b) for b in WIDTHS]) for n, s in shapes.items())
    file = Bound("the file", size, 0.0, most)
    found = Decoder(Problem(variables, (), loss, 0.0, (file,))).decode(inf)
    return {n: WIDTHS[found.assignment[f"bits:{n}"]] for n in shapes}


def tilted(losses: Losses, power: float) -> Losses:
    """As if large losses counted for more (a power above 1), or for less."""
    return {n: {b: loss**power for b, loss in found.items()} for n, found in losses.items()}


def _factor(node: str, values: list[float]) -> Factor:
    return Factor((f"bits:{node}",), np.array(values, np.float64))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--network", choices=("resnet20", "resnet32"), default="resnet20")
    parser.add_argument("--shared", type=Path, default=SHARED)
    parser.add_argument("--bits", type=int, nargs="+", default=[8, 6, 5, 4, 3, 2])
    parser.add_argument("--act-bits", type=int, default=8)
    parser.add_argument("--kind", help="kind of the weights of few bits")
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--qat", type=int, default=0, metavar="IMAGES")
    return parser.parse_args()


if __name__ == "__main__":
    main()
