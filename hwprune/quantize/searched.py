"""Weights that are searched for among few values: SLB (Yang et al. 2020, section 3).

Each weight is a distribution P = softmax(A / t) over the values v that there are. Training computes
with the mean, sum P_i v_i, which has a gradient everywhere; the temperature t falls until P is all
but certain. What is deployed is the likeliest value.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from hwprune.quantize.encodings import levels_of
from hwprune.quantize.formulas import Quantised
from hwprune.quantize.grids import few_bits_scale

_START, _END = 0.3, 0.9  # shares of the training between which the temperature falls
_LAST = 1e-3  # temperature; the first one is 1
_SPREAD = 0.5  # of the first distribution around the weight, in squared steps


class Searched(nn.Module):
    """The nearest of its values until `begin`; from then on what the search finds."""

    def __init__(self, bit_width: int, output_channel_dim: int) -> None:
        super().__init__()
        self.bits, self.axis = bit_width, output_channel_dim
        self.values: Tensor
        self.temperature: Tensor
        self.scale: Tensor | None
        self.logits: nn.Parameter | None
        values = torch.from_numpy(levels_of(bit_width)).float()
        self.register_buffer("values", values, persistent=False)
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("scale", None)
        self.register_parameter("logits", None)

    def begin(self, weight: Tensor) -> None:
        """Starts from a weight: values near to it are likely."""
        self.scale = self._scale(weight)
        distance = weight / self.scale - self._column(weight)
        # Times the scale: a step of training then moves the mean as far as it would move a weight.
        self.logits = nn.Parameter(-distance.square() / _SPREAD * self.scale)

    def probabilities(self) -> Tensor:
        """P, values x the weight's shape."""
        assert self.logits is not None
        assert self.scale is not None
        return torch.softmax(self.logits / (self.scale * self.temperature), 0)

    def forward(self, weight: Tensor) -> Quantised:
        """Any shape in, the same out."""
        scale = self._scale(weight) if self.scale is None else self.scale
        column = self._column(weight)
        if self.logits is None:
            found = self.values[(weight / scale - column).abs().argmin(0)]
        elif self.training:
            found = (self.probabilities() * column).sum(0)
        else:
            found = self.values[self.logits.argmax(0)]
        return found * scale, scale, torch.zeros(()), torch.tensor(float(self.bits))

    def _scale(self, weight: Tensor) -> Tensor:
        """Of each output, ready to broadcast."""
        rows = weight.detach().movedim(self.axis, 0)
        found = few_bits_scale(rows.flatten(1), self.bits)
        return found.reshape(-1, *[1] * (rows.ndim - 1)).movedim(0, self.axis)

    def _column(self, weight: Tensor) -> Tensor:
        """The values along an axis in front of the weight's."""
        return self.values.reshape(-1, *[1] * weight.ndim)


def begin(module: nn.Module) -> None:
    """Every search in a quantised network starts from the weight as it is."""
    for layer, search in _searches(module):
        search.begin(layer.weight.detach())


def anneal(module: nn.Module, share: float) -> None:
    """The temperature of all searches after so much of the training, 0 to 1."""
    cooled = min(max((share - _START) / (_END - _START), 0.0), 1.0)
    for _, search in _searches(module):
        search.temperature.fill_(_LAST**cooled)


@torch.no_grad()
def settle(module: nn.Module) -> None:
    """Weights are what was found, and the searches are over."""
    for layer, search in _searches(module.eval()):
        layer.weight.copy_(layer.quant_weight().value)
        search.logits = None


def _searches(module: nn.Module) -> Iterator[tuple[Any, Searched]]:
    for layer in module.modules():
        quantizer = getattr(getattr(layer, "weight_quant", None), "tensor_quant", None)
        if isinstance(quantizer, Searched):
            yield layer, quantizer
