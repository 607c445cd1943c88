"""Rounds the weights of a quantised network layer by layer, each for the inputs that it gets."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, fx

from hwprune.network import linear
from hwprune.network.run import Inputs
from hwprune.quantize.gptq import gptq, inverse
from hwprune.quantize.grids import Grid
from hwprune.quantize.quantizers import nearest


@dataclass(frozen=True, slots=True)
class Looks:
    """How many positions a layer's rounding looks at: so many for a column of its weight."""

    per_column: int
    least: int
    most: int


THOROUGH, QUICK = Looks(16, 4096, 16384), Looks(4, 1024, 4096)


@torch.no_grad()
def round_weights(
    module: fx.GraphModule,
    x: Inputs,
    nodes: Collection[str],
    seed: int = 0,
    looks: Looks = THOROUGH,
) -> None:
    """Puts the weights of some quantised nodes on their quantisers' grids by GPTQ, in place.

    One pass: a layer is rounded just before it computes, so it sees what the layers in front of it
    have become. Where it has a bias, only the covariance of the inputs is left to the weights, as
    the bias takes up what the mean input makes of their errors.

    Args:
        module: Instrumented twin.
        x: Calibration samples.
        nodes: ONNX nodes; those that are no plain matrix product stay as they are.
        seed: Draws the positions that are looked at.
        looks: How many.
    """

    def visit(node: str, layer: linear.Layer, rows: Tensor) -> None:
        round_layer(layer, rows, nearest(layer))

    InputRows(module, frozenset(nodes), visit, looks, seed).run(*x)


def round_layer(layer: linear.Layer, rows: Tensor, grid: Grid) -> None:
    """Puts the weight of a layer on a grid, for inputs groups x rows x columns."""
    weight = linear.weight_matrix(layer).clone()
    mean = rows.mean(1, keepdim=True)
    if layer.bias is not None:
        rows = rows - mean
    rounded = gptq(weight, inverse(rows.mT @ rows / rows.shape[1]), grid)
    if layer.bias is not None:
        layer.bias += ((weight - rounded) @ mean.mT).flatten()
    layer.weight.copy_(rounded.reshape(layer.weight.shape))


class InputRows(fx.Interpreter):
    """Runs a twin, and shows `visit` what each of some nodes' layers is about to read.

    A layer that `visit` changes computes with what it has become.
    """

    def __init__(
        self,
        module: fx.GraphModule,
        nodes: frozenset[str],
        visit: Callable[[str, linear.Layer, Tensor], None],
        looks: Looks,
        seed: int,
    ) -> None:
        super().__init__(module)
        layers = linear.layers(module)
        self.layers = {name: layers[name] for name in nodes & layers.keys()}
        self.visit, self.looks, self.seed = visit, looks, seed

    def run_node(self, n: fx.Node) -> Any:
        """Its value, after what it reads was shown."""
        layer = self.layers.get(n.meta["node"]) if n.op == "call_module" else None
        if layer is None:
            return super().run_node(n)
        (x, *_), _ = self.fetch_args_kwargs_from_env(n)
        self.visit(n.meta["node"], layer, self._rows(layer, x))
        return super().run_node(n)

    def _rows(self, layer: linear.Layer, x: Tensor) -> Tensor:
        """Sampled inputs, groups x rows x columns."""
        looks = self.looks
        wanted = min(max(looks.per_column * linear.columns(layer), looks.least), looks.most)
        generator = torch.Generator().manual_seed(self.seed)  # whatever other nodes are shown
        index = torch.randperm(prod(linear.output_sizes(layer, x)), generator=generator)
        return linear.input_rows(layer, x, index[:wanted])
