"""What a cost adds to the loss of a training, and how choices settle while it goes on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hwprune.differentiable.costs import Cost
from hwprune.differentiable.mixed import Mixture
from hwprune.train.hooks import Hook
from hwprune.train.loop import Progress
from hwprune.train.qat import units_of
from hwprune.quantize.quantizers import weight_step

_LAST = math.exp(-0.045 * 100)  # temperature: what a hundred of the paper's epochs leave of 1
_FIRST = 0.01  # of the strength; it is full after half of the training
_TRAVEL = 4.0  # how far a logit can go in a training, whatever its length: they start within 1


@dataclass(frozen=True, slots=True)
class Aim:
    """A cost that is to fall: to `most`, or without it, on and on.

    `strength`, in units of the loss, is what the network costs as it came, once it counts in full:
    s max(0, cost - most) with s = strength / (cost at first - most), as the DUCCIO form of the
    paper, or lambda cost with lambda = strength / cost at first.
    """

    cost: Cost
    most: float | None = None
    strength: float = 1.0

    def penalty(self, cost: Tensor, first: float) -> Tensor:
        """In full."""
        if self.most is None:
            return self.strength * cost / first
        over = (cost - self.most).clamp_min(0)
        return self.strength * over / max(first - self.most, 1e-9 * first)


class Pressure(Hook):
    """Adds the aims' penalties to the loss; `told` is to be called with the progress."""

    def __init__(self, mixture: Mixture, aims: Sequence[Aim], progress: Progress | None) -> None:
        self.mixture, self.aims, self.progress = mixture, aims, progress
        self.share = 0.0
        with torch.no_grad():
            self.first = [float(aim.cost(mixture.uses())) for aim in aims]

    def told(self, done: int, total: int, text: str) -> None:
        """So much of the training is over."""
        self.share = done / max(1, total)
        self.mixture.cool(_LAST**self.share)
        if self.progress is not None:
            self.progress(done, total, text)

    def loss(self) -> Tensor | None:
        """lambda_e = lambda min(1, 1 / 100 + 99 / 100 e / (E / 2)) times each penalty."""
        if not self.aims:
            return None
        ramp, uses = min(1.0, _FIRST + (1 - _FIRST) * 2 * self.share), self.mixture.uses()
        penalties = [
            aim.penalty(aim.cost(uses), first)
            for aim, first in zip(self.aims, self.first, strict=True)
        ]
        return ramp * torch.stack(penalties).sum()


class Optimizing:
    """Makes Adam for weights, each in its unit, and for logits, at a rate of their own."""

    def __init__(self, mixture: Mixture, steps: int) -> None:
        self.mixture, self.rate = mixture, _TRAVEL / steps

    def __call__(self, module: nn.Module, rate: float) -> torch.optim.Optimizer:
        """See `hwprune.train.optimizers.Optimizers`."""
        units = units_of(module)
        for layer in self.mixture.mixed.values():
            steps = [weight_step(option) or 0.0 for option in layer.options]
            units |= dict.fromkeys(layer.plain.parameters(), sum(steps) / len(steps))
        logits = self.mixture.logits
        own = {id(p) for p in logits}
        groups = [{"params": [p], "lr": rate * u} for p, u in units.items() if id(p) not in own]
        return torch.optim.Adam([*groups, {"params": logits, "lr": self.rate}])
