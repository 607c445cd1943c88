"""What a cost adds to the loss of a training, and how choices settle while it goes on."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from hwprune.differentiable.costs import Cost
from hwprune.differentiable.mixed import Mixture
from hwprune.quantize.quantizers import weight_step
from hwprune.train.hooks import Hook
from hwprune.train.optimizers import Optimizers
from hwprune.train.qat import units_of

_LAST = math.exp(-0.045 * 100)  # temperature: what a hundred of the paper's epochs leave of 1
_FIRST = 0.01  # of the strength; it is full after half of the training
_TRAVEL = 8.0  # how far logits go in a training, whatever its length: they start within 1
_MOMENTUM = 0.9
_LARGEST = 0.1  # step of a logit


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
    """Adds the aims' penalties to the loss, and moves the logits.

    Logits are moved by SGD with momentum, whose steps keep the proportions of gradients: Adam would
    move all channels of a layer alike, as they cost alike. The rate is such that penalties of
    strength 1, alone, would take a logit as far as `_TRAVEL` in the whole training, in the mean.
    """

    def __init__(self, mixture: Mixture, aims: Sequence[Aim]) -> None:
        self.mixture, self.aims = mixture, aims
        self.share, self.rate, self.spent = 0.0, 0.0, [1.0] * len(aims)
        self.speeds = [torch.zeros_like(p) for p in mixture.logits]
        with torch.no_grad():
            self.first = [float(aim.cost(mixture.uses())) for aim in aims]
        self.slope = self._slope()

    def start(self, steps: int, epoch: int, rate: float) -> None:
        """See `Hook`."""
        self._pace(steps)

    def progressed(self, done: int, total: int) -> None:
        """See `Hook`; shares cool."""
        self._pace(total)
        self.share = done / max(1, total)
        self.mixture.cool(_LAST**self.share)

    @property
    def told(self) -> str:
        """See `Hook`."""
        return ", ".join(f"{spent:.2f} of the cost" for spent in self.spent)

    def _pace(self, steps: int) -> None:
        self.rate = _TRAVEL / max(1, steps) / self.slope if self.slope > 0 else 0.0

    def loss(self) -> Tensor | None:
        """lambda_e = lambda min(1, 1 / 100 + 99 / 100 e / (E / 2)) times each penalty."""
        if not self.aims:
            return None
        ramp = min(1.0, _FIRST + (1 - _FIRST) * 2 * self.share)
        return ramp * self._penalties(self.aims)

    def _penalties(self, aims: Sequence[Aim]) -> Tensor:
        uses = self.mixture.uses()
        costs = [aim.cost(uses) for aim in aims]
        pairs = list(zip(costs, self.first, strict=True))
        self.spent = [float(cost.detach()) / first for cost, first in pairs]
        penalties = [aim.penalty(*pair) for aim, pair in zip(aims, pairs, strict=True)]
        return torch.stack(penalties).sum()

    def _slope(self) -> float:
        """Root mean square of a logit's gradient by penalties of strength 1, at first."""
        if not self.aims:
            return 0.0
        self.mixture.module.train()
        whole = self._penalties([replace(aim, strength=1.0) for aim in self.aims])
        self.mixture.module.eval()
        gradients = torch.autograd.grad(whole, self.mixture.logits, allow_unused=True)
        known = [g.flatten() for g in gradients if g is not None]
        return float(torch.cat(known).square().mean().sqrt())

    @torch.no_grad()
    def after_step(self, rate: float) -> None:
        """The logits move, too."""
        for i, logits in enumerate(self.mixture.logits):
            if logits.grad is not None:
                speed = _MOMENTUM * self.speeds[i].to(logits.device)
                self.speeds[i] = speed + (1 - _MOMENTUM) * logits.grad
                step = self.rate * self.speeds[i]
                logits.sub_(step.clamp(-_LARGEST, _LARGEST))

    def state(self) -> Mapping[str, Any]:
        """The share of the training, and the momentum."""
        return {"share": self.share, "speeds": self.speeds}

    def load(self, state: Mapping[str, Any]) -> None:
        """Goes on from there."""
        self.share, self.speeds = state["share"], state["speeds"]


def adam_for(mixture: Mixture) -> Optimizers:
    """Adam for all but the logits, each parameter in its unit; of a weight that has several numbers
    of bits that is the mean of their steps.
    """

    def make(module: nn.Module, rate: float) -> torch.optim.Optimizer:
        units = units_of(module)
        for layer in mixture.mixed.values():
            steps = [weight_step(option) or 0.0 for option in layer.options]
            units |= dict.fromkeys(layer.plain.parameters(), sum(steps) / len(steps))
        chosen = {id(p) for p in mixture.logits}
        rates = [{"params": [p], "lr": rate * u} for p, u in units.items() if id(p) not in chosen]
        return torch.optim.Adam(rates)

    return make
