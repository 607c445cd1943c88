"""Bounds on what is trained: the augmented Lagrangian for inequalities."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class Lagrangian:
    """Adds to a loss what broken bounds cost, until they hold exactly.

    With c = used - 1 for each bound and its multiplier u (Rockafellar 1973):

        (max(0, u + rho c)^2 - u^2) / (2 rho),  then u <- max(0, u + rho c).

    Where c > 0 this is u c + rho/2 c^2. Where c is a little below 0 it still falls with c, other
    than u max(0, c) would: no force that jumps at the bound.
    """

    def __init__(self, bounds: int, rho: float, most: float) -> None:
        self.rho, self.most = rho, most
        self.multipliers = torch.zeros(bounds, dtype=torch.float64)

    def term(self, used: Tensor) -> Tensor:
        """To be added to the loss; `used` is the share of each bound, differentiable."""
        shifted = (self.multipliers + self.rho * (used - 1)).clamp_min(0)
        return (shifted.square() - self.multipliers.square()).sum() / (2 * self.rho)

    def update(self, used: Tensor) -> None:
        """The outer step, after some inner ones."""
        shifted = self.multipliers + self.rho * (used.detach() - 1)
        self.multipliers = shifted.clamp(0, self.most)

    def state(self) -> Mapping[str, Any]:
        """What a training that goes on later needs."""
        return {"multipliers": self.multipliers}

    def load(self, state: Mapping[str, Any]) -> None:
        """Takes over a `state`."""
        self.multipliers = state["multipliers"]
