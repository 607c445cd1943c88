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
_SHARPNESS = (4.0, 16.0)  # at the start and at the end, per standard deviation of log importance


class Ratios:
    """A ratio sigmoid(a) for each width variable; its groups share it.

    `logits` are trained, by whoever has a gradient for them, until the gates are `settled`.
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
        self.importance = importance
        self._inside = torch.arange(int(importance.widths.max())) < importance.widths[:, None]
        self.generator = torch.Generator().manual_seed(seed)
        self.sharpness = _SHARPNESS[0]
        self.settled: Tensor | None = None  # groups x channels: gates that move no more

    @property
    def shares(self) -> Tensor:
        """`variables`: what each keeps."""
        return self.logits.sigmoid()

    def gates(self, training: bool) -> Gates:
        """By group: drawn while training, else the most important channels."""
        rows = self._rows(training) if self.settled is None else self.settled
        return dict(zip(self.groups, self._cut(rows), strict=True))

    def _rows(self, training: bool) -> Tensor:
        logs = log_importance(self.importance(), self._inside)
        shares = self.shares[self._variable_of]
        if not training:
            return most_important(shares * self._inside.sum(1), logs, self._inside)
        p = keep_probabilities(shares, logs, self._inside, self.sharpness)
        return sample(p, self._inside, self.generator)

    def settle(self, widths: Mapping[str, int]) -> None:
        """From now on the gates are open for the most important channels, so many of each group."""
        logs = log_importance(self.importance(), self._inside)
        counts = torch.tensor([widths[g] for g in self.groups])
        self.settled = most_important(counts, logs, self._inside)

    def orders(self) -> dict[str, Tensor]:
        """Channels by group, the most important first; those that were settled on before others."""
        ranks = log_importance(self.importance(), self._inside)
        if self.settled is not None:
            ranks = ranks + self.settled * (1 + ranks.max() - ranks.min())
        rows = zip(self.groups, self._cut(ranks), strict=True)
        return {group: row.argsort(stable=True, dim=0, descending=True) for group, row in rows}

    def _cut(self, rows: Tensor) -> list[Tensor]:
        """Each row without what its group does not have."""
        return [row[:w] for row, w in zip(rows, self.importance.widths.tolist(), strict=True)]

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
            "settled": self.settled,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Takes over a `state`."""
        with torch.no_grad():
            self.logits.copy_(state["logits"])
        self.generator.set_state(state["drawn"])
        self.sharpness, self.settled = state["sharpness"], state["settled"]
