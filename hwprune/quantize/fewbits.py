"""Weights in few bits while activations stay as they are: what storing them so costs."""

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial

import onnx_graphsurgeon as gs
import torch
from torch import Tensor, fx, nn

from hwprune.network import linear
from hwprune.network.run import Data, Inputs
from hwprune.network.samples import affordable
from hwprune.network.twin import to_module
from hwprune.precision import FULL_BITS
from hwprune.quantize.grids import few_bits_grid
from hwprune.quantize.rounding import QUICK, InputRows, round_layer
from hwprune.quantize.trials import Exchanged, Trial, blocks, losses

_RUNS = 120  # forward passes; larger networks are estimated in blocks of nodes
_VALUES = 6e7  # activations of one pass


@torch.no_grad()
def round_in_place(
    twin: fx.GraphModule, bits: Mapping[str, int], per_channel: bool, x: Inputs, seed: int = 0
) -> fx.GraphModule:
    """Rounds the weights of some nodes of a twin to few bits, each for what it then reads.

    Args:
        twin: In fp32; its weights are changed, and their biases corrected.
        bits: Per ONNX node; those that are no plain matrix product stay as they are.
        per_channel: Whether every output has a scale of its own.
        x: Calibration samples.
        seed: Draws the positions that are looked at.
    """

    def visit(node: str, layer: linear.Layer, rows: Tensor) -> None:
        _round(layer, rows, bits[node], per_channel)

    InputRows(twin, frozenset(bits), visit, QUICK, seed).run(*x)
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
        x: `N x ...`. Weights are rounded for its first samples, 256 at most, and judged on half as
            many other ones; on fewer of both for a large network.
        seed: Draws the positions that are looked at.

    Returns:
        Per node and bits: see `trials.losses`. A block of nodes shares its loss evenly. Full widths
        lose nothing, as the kernel's own loss holds theirs.
    """
    seen, others = _apart(graph, x)
    twin = to_module(graph)
    few = {n: [b for b in bits if b < FULL_BITS] for n, bits in options.items()}
    rounded = _rounded_alone(twin, few, per_channel, seen, seed)
    trials = list(_trials(twin, few, rounded))
    found = {n: dict.fromkeys(bits, 0.0) for n, bits in options.items()}
    for trial, loss in zip(trials, losses(twin, trials, others), strict=True):
        for node in trial.nodes:
            found[node][int(trial.form)] = loss / len(trial.nodes)
    return found


def _apart(graph: gs.Graph, x: Data) -> tuple[Inputs, Inputs]:
    """Samples to round for, and others to judge by: weights rounded for the very samples that they
    are judged by look better the more columns they have.
    """
    x = affordable(graph, x, 3 * _VALUES, least=16, most=384)
    count = -(-2 * len(x[0]) // 3)
    return tuple(t[:count] for t in x), tuple(t[count:] if len(t) > 1 else t for t in x)


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
            found[node, bits] = copied = copy.deepcopy(layer)
            _round(copied, rows, bits, per_channel)

    InputRows(twin, frozenset(options), visit, QUICK, seed).run(*x)
    return found


def _round(layer: linear.Layer, rows: Tensor, bits: int, per_channel: bool) -> None:
    grid = few_bits_grid(linear.weight_matrix(layer), bits, per_channel)
    round_layer(layer, rows, grid)


def _paths(twin: fx.GraphModule, nodes: Iterable[str]) -> dict[str, str]:
    able = linear.layers(twin)
    known = linear.paths(twin)
    return {node: known[node] for node in nodes if node in able}
