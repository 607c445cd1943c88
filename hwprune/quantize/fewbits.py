"""Weights in few bits while activations stay as they are: what storing them so costs."""

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import cast

import onnx_graphsurgeon as gs
import torch
from torch import Tensor, fx, nn

from hwprune.network import linear
from hwprune.network.run import Data, Inputs
from hwprune.network.twin import to_module
from hwprune.precision import FULL_BITS
from hwprune.quantize.kinds import kind_of
from hwprune.quantize.quantizers import frozen, quantized_layer
from hwprune.quantize.rounding import QUICK, InputRows, round_layer
from hwprune.quantize.samples import affordable
from hwprune.quantize.trials import Exchanged, Trial, blocks, losses

_RUNS = 120  # forward passes; larger networks are estimated in blocks of nodes
_VALUES = 6e7  # activations of one pass


@torch.no_grad()
def round_in_place(
    twin: fx.GraphModule, bits: Mapping[str, int], per_channel: bool, x: Inputs, seed: int = 0
) -> fx.GraphModule:
    """A twin whose weights of some nodes have few bits, each rounded for what it then reads.

    Args:
        twin: In fp32; its layers are exchanged.
        bits: Per ONNX node; those that are no plain matrix product stay as they are.
        per_channel: Whether every output has a scale of its own.
        x: Calibration samples.
        seed: Draws the positions that are looked at.
    """
    paths = _paths(twin, bits)
    for node, path in paths.items():
        layer = quantized_layer(twin.get_submodule(path), kind_of(bits[node], per_channel))
        twin.set_submodule(path, layer)
    InputRows(twin, frozenset(paths), round_layer, QUICK, seed).run(*x)
    for path in paths.values():
        twin.set_submodule(path, frozen(twin.get_submodule(path)))
    return twin


@torch.no_grad()
def bit_sensitivity(
    graph: gs.Graph, options: Mapping[str, Sequence[int]], per_channel: bool, x: Data, seed: int = 0
) -> dict[str, dict[int, float]]:
    """The loss when one node's weight has few bits and all else is fp32.

    Args:
        graph: Canonical graph.
        options: Bits per node.
        per_channel: Whether every output has a scale of its own.
        x: `N x ...`; of it the first 64 samples are used, fewer (but 8) for a large network.
        seed: Draws the positions that are looked at.

    Returns:
        Per node and bits: see `trials.losses`. A block of nodes shares its loss evenly. Full widths
        lose nothing, as the kernel's own loss holds theirs.
    """
    x = affordable(graph, x, _VALUES, least=8, most=64)
    twin = to_module(graph)
    few = {n: [b for b in bits if b < FULL_BITS] for n, bits in options.items()}
    rounded = _rounded_alone(twin, few, per_channel, x, seed)
    trials = list(_trials(twin, few, rounded))
    found = {n: dict.fromkeys(bits, 0.0) for n, bits in options.items()}
    for trial, loss in zip(trials, losses(twin, trials, x), strict=True):
        for node in trial.nodes:
            found[node][int(trial.form)] = loss / len(trial.nodes)
    return found


def _trials(
    twin: fx.GraphModule,
    options: Mapping[str, Sequence[int]],
    rounded: Mapping[tuple[str, int], nn.Module],
) -> Iterator[Trial]:
    widths = sorted({b for bits in options.values() for b in bits})
    for width in widths:
        names = [n for n in options if (n, width) in rounded]
        for block in blocks(names, _RUNS // len(widths)):
            layers = {path: rounded[n, width] for n, path in _paths(twin, block).items()}
            yield Trial(block, str(width), frozenset(block), partial(Exchanged, twin, layers))


def _rounded_alone(
    twin: fx.GraphModule,
    options: Mapping[str, Sequence[int]],
    per_channel: bool,
    x: Inputs,
    seed: int,
) -> dict[tuple[str, int], nn.Module]:
    """Layers that stand for those of a twin, by ONNX node and bits: each rounded for what the
    untouched network reads there.
    """
    found: dict[tuple[str, int], nn.Module] = {}

    def visit(node: str, layer: linear.Layer, rows: Tensor) -> None:
        for bits in options[node]:
            copied = quantized_layer(copy.deepcopy(layer), kind_of(bits, per_channel))
            round_layer(node, cast("linear.Layer", copied), rows)
            found[node, bits] = frozen(copied)

    InputRows(twin, frozenset(options), visit, QUICK, seed).run(*x)
    return found


def _paths(twin: fx.GraphModule, nodes: Iterable[str]) -> dict[str, str]:
    able = linear.layers(twin)
    known = linear.paths(twin)
    return {node: known[node] for node in nodes if node in able}
