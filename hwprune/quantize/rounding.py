"""Rounds the weights of a quantised network layer by layer, each for the inputs that it gets."""

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, fx

from hwprune.network import linear
from hwprune.network.run import Inputs
from hwprune.quantize.gptq import gptq
from hwprune.quantize.quantizers import nearest

_ROWS_PER_COLUMN, _LEAST_ROWS, _MOST_ROWS = 16, 4096, 16384


@torch.no_grad()
def round_weights(module: fx.GraphModule, x: Inputs, nodes: Collection[str], seed: int = 0) -> None:
    """Puts the weights of some quantised nodes on their quantisers' grids by GPTQ, in place.

    One pass: a layer is rounded just before it computes, so it sees what the layers in front of it
    have become. Where it has a bias, only the covariance of the inputs is left to the weights, as
    the bias takes up what the mean input makes of their errors.

    Args:
        module: Instrumented twin.
        x: Calibration samples.
        nodes: ONNX nodes; those that are no plain matrix product stay as they are.
        seed: Draws the positions that are looked at.
    """
    _Rounding(module, frozenset(nodes), seed).run(*x)


class _Rounding(fx.Interpreter):
    def __init__(self, module: fx.GraphModule, nodes: frozenset[str], seed: int) -> None:
        super().__init__(module)
        layers = linear.layers(module)
        self.layers = {name: layers[name] for name in nodes & layers.keys()}
        self.generator = torch.Generator().manual_seed(seed)

    def run_node(self, n: fx.Node) -> Any:
        layer = self.layers.get(n.meta["node"]) if n.op == "call_module" else None
        if layer is None:
            return super().run_node(n)
        (x, *_), _ = self.fetch_args_kwargs_from_env(n)
        self._round(layer, self._rows(layer, x, super().run_node(n)))
        return super().run_node(n)

    def _rows(self, layer: linear.Layer, x: Tensor, output: Tensor) -> Tensor:
        """Sampled inputs, groups x rows x columns."""
        wanted = min(max(_ROWS_PER_COLUMN * linear.columns(layer), _LEAST_ROWS), _MOST_ROWS)
        index = torch.randperm(linear.positions(layer, output), generator=self.generator)
        return linear.input_rows(layer, x, index[:wanted])

    def _round(self, layer: linear.Layer, rows: Tensor) -> None:
        weight = linear.weight_matrix(layer).clone()
        mean = rows.mean(1, keepdim=True)
        if layer.bias is not None:
            rows = rows - mean
        rounded = gptq(weight, rows.mT @ rows / rows.shape[1], nearest(layer))
        if layer.bias is not None:
            layer.bias += ((weight - rounded) @ mean.mT).flatten()
        layer.weight.copy_(rounded.reshape(layer.weight.shape))
