"""Soft filter pruning: filters are turned down and may come back (SFP, ASFP, SRFP, ASRFP).

SFP (He et al. 2018, arXiv 1808.06866) sets the filters of least norm to zero after every epoch and
trains on all of them; ASFP lets their number grow. SRFP and ASRFP (arXiv 2010.09498) multiply by a
factor that falls to zero instead: once every I steps that equals a penalty of (1 - a^(1/I)) / rate
on these filters.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hwprune.schedules.schedule import Schedule, Task, least

_ROUNDS = 10  # at least, where there are fewer epochs


class Soft(Schedule):
    """See the module.

    Args:
        grows: Whether the number of filters grows over the training (ASFP, ASRFP).
        alpha: What the first selection is multiplied by, falling in a line; 0 for SFP and ASFP.
        every: Steps between two selections; by default an epoch, less in short trainings.
        power: Of the norm that filters are selected by.
    """

    def __init__(
        self, grows: bool = False, alpha: float = 0.0, every: int | None = None, power: int = 2
    ) -> None:
        self.grows, self.alpha, self._every, self.power = grows, alpha, every, power

    def plan(self, task: Task) -> int:
        """See `Schedule`."""
        super().plan(task)
        self.every = self._every or max(1, min(task.epoch, task.steps // _ROUNDS))
        self.counted = 0
        self.selected = {n: torch.zeros(w, dtype=torch.bool) for n, w in task.full.items()}
        return task.steps

    def after_step(self, rate: float) -> None:
        """Turns the selected filters down when it is time."""
        self.counted += 1
        if self.counted % self.every:
            return
        for name, channels in self.channels.items():
            self.selected[name] = least(channels.norms(self.power), self._count(name))
            factors = torch.where(self.selected[name], self.factor(self._share), 1.0)
            channels.multiply(factors)

    def kept(self) -> dict[str, tuple[int, ...]]:
        """See `Schedule`: without those that are selected last."""
        return {
            name: tuple(int(i) for i in (~self._last(name)).nonzero().ravel())
            for name in self.channels
        }

    def factor(self, share: float) -> float:
        """What the selected filters are multiplied by after a share of the training."""
        return self.alpha * max(0.0, 1 - share)

    def number(self, share: float, count: int) -> int:
        """How many of `count` are selected after a share of the training."""
        return round(growing(share) * count) if self.grows else count

    def state(self) -> Mapping[str, Any]:
        """See `Hook`."""
        return {"counted": self.counted, "selected": dict(self.selected)}

    def load(self, state: Mapping[str, Any]) -> None:
        """See `Hook`."""
        self.counted = state["counted"]
        self.selected = {name: chosen.bool() for name, chosen in state["selected"].items()}

    @property
    def _share(self) -> float:
        return self.counted / max(1, self.task.steps)

    def _count(self, name: str) -> int:
        return self.number(self._share, self.task.removals[name])

    def _last(self, name: str) -> Tensor:
        return least(self.channels[name].norms(self.power), self.task.removals[name])


def growing(share: float) -> float:
    """ASFP's share of the filters: a exp(-k t) + b through (0, 0), (1/8, 3/4) and (1, 1)."""
    return (1 - math.exp(-_K * share)) / (1 - math.exp(-_K))


def _solved() -> float:
    """K for which the curve passes through (1/8, 3/4), by bisection."""
    low, high = 1.0, 100.0
    for _ in range(100):
        k = (low + high) / 2
        value = (1 - math.exp(-k / 8)) / (1 - math.exp(-k))
        low, high = (k, high) if value < 0.75 else (low, k)
    return low


_K = _solved()
