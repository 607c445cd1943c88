"""Layers whose every output chooses its own bits while it is trained, 0 among them.

Joint pruning and channel-wise mixed precision (arXiv 2407.01054): an output c has a logit a_p,c
for each p of {0, 2, 4, 8} bits, theta = softmax(a / t), and its weight is the sum of theta_p Q_p(w)
with Q_0 = 0; in evaluation the likeliest p is taken alone. Here the sum is taken apart into what an
output has if it is there, and whether it is there, which all layers that make the channel decide
together: for one layer the product of both is the paper's theta.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from hwprune.quantize.quantizers import plain_layer


class Bits(nn.Module):
    """The bits of one layer's outputs, without 0. Logits start at p / max p."""

    def __init__(self, options: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.temperature: Tensor
        start = torch.tensor(options, dtype=torch.float) / max(options)
        self.logits = nn.Parameter(start[:, None].repeat(1, outputs))
        self.register_buffer("temperature", torch.ones(()))

    def shares(self) -> Tensor:
        """Options x outputs, one column adding up to 1: soft in training, else of the likeliest."""
        if self.training:
            return torch.softmax(self.logits / self.temperature, 0)
        return F.one_hot(self.logits.argmax(0), len(self.logits)).T.to(self.logits.dtype)

    def value(self) -> Tensor:
        """What speaks for each output's being there: as large as all its logits, or the largest."""
        scaled = self.logits / self.temperature
        return scaled.logsumexp(0) if self.training else scaled.amax(0)


class Presence(nn.Module):
    """Which channels of one group are there; `least` of them always are.

    Logits of 0 bits start at 0. `makers` are the bits of the layers that make these channels, each
    with its outputs for every channel (width x repeat).
    """

    def __init__(self, width: int, least: int, makers: Sequence[tuple[Bits, Tensor]]) -> None:
        super().__init__()
        self.temperature: Tensor
        self.zero = nn.Parameter(torch.zeros(width))
        self.register_buffer("temperature", torch.ones(()))
        self.least = min(least, width)
        self.makers = tuple(makers)  # a tuple: they are registered with their layers

    def margin(self) -> Tensor:
        """Of each channel, by how much it should stay: above 0 it does."""
        zero = self.zero / self.temperature
        found = [bits.value()[outputs.to(zero.device)].mean(1) for bits, outputs in self.makers]
        return (torch.stack(found).mean(0) if found else 1 / self.temperature) - zero

    def kept(self) -> Tensor:
        """Of each channel 1 - theta_0: soft in training, else 0 or 1."""
        margin = self.margin()
        found = margin.sigmoid() if self.training else (margin > 0).to(margin.dtype)
        return found.index_fill(0, margin.topk(self.least).indices, 1.0)


class Presences(nn.Module):
    """All groups: the row of `structure`."""

    def __init__(self, groups: Sequence[Presence]) -> None:
        super().__init__()
        self.groups = nn.ModuleList(groups)
        self.one: Tensor
        self.register_buffer("one", torch.ones(1))

    def forward(self) -> Tensor:
        """Whether each channel is there; the last one is what always stays."""
        return torch.cat([*(group.kept() for group in self.groups), self.one])  # type: ignore[operator]


class Gate(nn.Module):
    """Stands before whatever sums over channels, and lets those through that are there.

    So everything between who makes a channel and who reads it is gone with it, biases included.
    """

    def __init__(self, presences: Presences, index: Tensor, axis: int) -> None:
        super().__init__()
        self.index: Tensor
        self.register_buffer("index", index, persistent=False)
        self.axis, self.row = axis, (presences,)  # a tuple: registered once, elsewhere

    def forward(self, x: Tensor) -> Tensor:
        """Any shape in, the same out."""
        shape = [1] * x.ndim
        shape[self.axis] = len(self.index)
        there: Tensor = self.row[0]()[self.index].prod(1)
        return x * there.reshape(shape)


class Mixed(nn.Module):
    """A layer whose weight is the mean of quantised ones, by the shares of its outputs.

    `options` are quantised layers with one weight and bias between them.
    """

    def __init__(self, options: Sequence[nn.Module], bits: Bits, axis: int) -> None:
        super().__init__()
        self.options, self.bits, self.axis = nn.ModuleList(options), bits, axis
        self.plain = plain_layer(options[-1])

    def weight(self) -> Tensor:
        """Of the layer's shape."""
        weights = [option.quant_weight().value for option in self.options]  # type: ignore[operator]
        shape = [1] * weights[0].ndim
        shape[self.axis] = -1
        shares = zip(self.bits.shares(), weights, strict=True)
        return torch.stack([share.reshape(shape) * w for share, w in shares]).sum(0)

    def forward(self, x: Tensor) -> Tensor:
        """What the layer reads in, what it makes out."""
        found: Tensor = functional_call(self.plain, {"weight": self.weight()}, (x,))
        return found
