"""What trains keep ratios while weights are trained: one step for every step of the weights."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hwprune.differentiable.allocation import Allocation
from hwprune.differentiable.lagrangian import Lagrangian
from hwprune.differentiable.ratios import Ratios
from hwprune.train.hooks import Hook
from hwprune.train.objective import Objective

_DISTANCE = 20.0  # that a logit can go in a training: ratios start saturated, and must get to 0
_FASTEST = 0.5  # step of a logit
_FALLING = 0.5  # share of the training in which the bounds come down to what was asked for
_STEADY = 0.6  # share of it before the steps become smaller
_SETTLED = 0.75  # share of it from which only weights are trained, those of what is left
_NEWTON = 30
_LAST = 0.02  # of the largest step
_RHO = 20.0
_MOST = 2.0  # of a multiplier, in units where 1 balances the loss
_BETAS = 0.8, 0.9  # short memories: the bounds move
_TINY = 1e-12
_OUTER = 60  # updates of the multipliers
_MEMORY = 0.9  # of the mean length of gradients


class Allocator(Hook):
    """Moves the ratios down the gradient of held-out loss and bounds, and settles them at last.

    Loss and time count in units of the length of their own gradients, which changes no optimum:
    one `rho` suits every loss. Steps are Adam's, because the sigmoid scales all gradients of a
    ratio alike (at the start by 0.0066), and their length follows from the length of the training.
    """

    def __init__(self, objective: Objective, ratios: Ratios, allocation: Allocation) -> None:
        self.objective, self.ratios = objective, ratios
        self.allocation, self.relaxed = allocation, allocation.relaxed
        self.lagrangian = Lagrangian(len(self.relaxed.most), _RHO, _MOST)
        self.optimizer = torch.optim.Adam([ratios.logits], betas=_BETAS)
        with torch.no_grad():
            self.first = self.relaxed.used(ratios.shares)
        self.length, self.step, self.total = 0.0, 0, 0

    def start(self, steps: int, epoch: int, rate: float) -> None:
        """See `Hook`."""
        self.total = steps

    def progressed(self, done: int, total: int) -> None:
        """See `Hook`."""
        self.total = total

    @property
    def told(self) -> str:
        """See `Hook`."""
        most = float(self.relaxed.used(self.ratios.shares.detach()).max())
        return f"{most:.2f} of the budget"

    def after_step(self, rate: float) -> None:
        """One step of the ratios, on samples that weights are not trained on."""
        self.step += 1
        share = min(1.0, self.step / self.total)
        self.ratios.sharpen(share)
        if self.ratios.settled is not None:
            return
        if share >= _SETTLED:
            self.settle()
            return
        self.ratios.logits.grad = self._of_loss() + self._of_bounds(share)
        self.optimizer.param_groups[0]["lr"] = self._rate(share)
        self.optimizer.step()
        self.ratios.clip()

    def settle(self) -> None:
        """Ratios end on the bound, and the channels that stay are those of the nearest widths."""
        for _ in range(_NEWTON):
            self._restore()  # the bounds hold up to noise by now, and from here exactly
        named = zip(self.allocation.groups, self.ratios.shares.tolist(), strict=True)
        self.ratios.settle(self.allocation.widths(dict(named)))

    def _restore(self) -> None:
        """Newton's step onto the tightest bound, whatever the loss."""
        used = self.relaxed.used(self.ratios.shares).max()
        [slope] = torch.autograd.grad(used, self.ratios.logits)
        step = float(used.detach() - 1) * slope / slope.square().sum().clamp_min(_TINY)
        with torch.no_grad():
            self.ratios.logits.sub_(step.clamp(-_FASTEST, _FASTEST))
        self.ratios.clip()

    def _of_loss(self) -> Tensor:
        """Gradient of the loss on a few samples, in units of its usual length."""
        feed = self.objective.feed
        loss = self.objective.training(next(feed.batches(feed.order(), 0)))
        [slope] = torch.autograd.grad(loss, self.ratios.logits)
        if not bool(slope.isfinite().all()):
            return torch.zeros_like(slope)
        length = float(slope.norm())
        self.length = length if self.length == 0 else _mean(self.length, length)
        return slope / max(self.length, _TINY)

    def _of_bounds(self, share: float) -> Tensor:
        """Gradient of what broken bounds cost, in units of the length of that of the time."""
        logits = self.ratios.logits
        used = self.relaxed.used(self.ratios.shares) / self._allowed(share)
        [of_time] = torch.autograd.grad(used[0], logits, retain_graph=True)
        [slope] = torch.autograd.grad(self.lagrangian.term(used), logits)
        if self.step % max(1, self.total // _OUTER) == 0:
            self.lagrangian.update(used)
        return slope / max(float(of_time.norm()), _TINY)

    def _allowed(self, share: float) -> Tensor:
        """Of each bound: what the network takes at the start, falling to 1."""
        left = max(0.0, 1 - share / _FALLING)
        return self.first.clamp_min(1.0) ** left

    def _rate(self, share: float) -> float:
        peak = min(_FASTEST, _DISTANCE / self.total)
        late = max(0.0, (share - _STEADY) / (_SETTLED - _STEADY))
        return peak * (_LAST + (1 - _LAST) * 0.5 * (1 + math.cos(math.pi * late)))

    def state(self) -> Mapping[str, Any]:
        """See `Hook`."""
        return {
            "ratios": dict(self.ratios.state()),
            "lagrangian": dict(self.lagrangian.state()),
            "optimizer": self.optimizer.state_dict(),
            "drawn": self.objective.feed.generator.get_state(),
            "numbers": [self.length, self.step],
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """See `Hook`."""
        self.ratios.load(state["ratios"])
        self.lagrangian.load(state["lagrangian"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.objective.feed.generator.set_state(state["drawn"])
        self.length, self.step = state["numbers"]


def _mean(before: float, now: float) -> float:
    return _MEMORY * before + (1 - _MEMORY) * now
