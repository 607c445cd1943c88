"""Keep ratios of all width variables, and the gates that they stand for."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from hwprune.differentiable.gates import Gates
from hwprune.differentiable.importance import Importance
from hwprune.differentiable.keeping import (
    keep_probabilities,
    log_importance,
    most_important,
    sample,
)

_START = 5.0  # sigmoid: 0.993 of the channels
_SHARPNESS = (1.0, 16.0)  # at the start and at the end, per standard deviation of log importance


class Ratios:
    """A ratio sigmoid(a) for each width variable; its groups share it.

    `logits` are trained, by whoever has a gradient for them.
    """

    def __init__(
        self, groups: Mapping[str, Sequence[str]], least: Tensor, importance: Importance, seed: int
    ) -> None:
        """Takes groups by variable, and the least ratio that makes sense for each variable."""
        self.groups = [name for names in groups.values() for name in names]
        variables = [i for i, names in enumerate(groups.values()) for _ in names]
        self._variable_of = torch.tensor(variables)
        self.logits = torch.full((len(groups),), _START, dtype=torch.float64, requires_grad=True)
        self._lowest = torch.logit(least.clamp(1e-4, 1 - 1e-4)).clamp_max(_START)
        self.importance, self._inside = importance, importance.inside
        self.generator = torch.Generator().manual_seed(seed)
        self.sharpness = _SHARPNESS[0]

    @property
    def shares(self) -> Tensor:
        """`variables`: what each keeps."""
        return self.logits.sigmoid()

    def gates(self, training: bool) -> Gates:
        """By group: drawn while training, else the most important channels."""
        logs = log_importance(self.importance(), self._inside)
        shares = self.shares[self._variable_of]
        if training:
            p = keep_probabilities(shares, logs, self._inside, self.sharpness)
            rows = sample(p, self._inside, self.generator)
        else:
            rows = most_important(shares, logs, self._inside)
        widths = self.importance.widths.tolist()
        return {g: row[:w] for g, row, w in zip(self.groups, rows, widths, strict=True)}

    @torch.no_grad()
    def clip(self) -> None:
        """Back to between the least that makes sense and where they started."""
        self.logits.clamp_(self._lowest, torch.full_like(self._lowest, _START))

    def sharpen(self, share: float) -> None:
        """The boundary as it is after a share of the training."""
        low, high = _SHARPNESS
        self.sharpness = low * (high / low) ** min(1.0, share)

    def state(self) -> Mapping[str, Any]:
        """What a training that goes on later needs."""
        return {
            "logits": self.logits.detach(),
            "drawn": self.generator.get_state(),
            "sharpness": self.sharpness,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Takes over a `state`."""
        with torch.no_grad():
            self.logits.copy_(state["logits"])
        self.generator.set_state(state["drawn"])
        self.sharpness = state["sharpness"]
