"""GReg: penalties that grow on the channels to go (Wang et al. 2021, arXiv 2012.09243).

GReg-1 chooses them first, by magnitude. GReg-2 lets the penalty of all grow a little before it
chooses: a weight near the minimum of h/2 (w - w*)^2 shrinks to h w* / (h + penalty), so that
directions in which the loss is flat shrink first, and magnitudes tell of curvature, too.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hwprune.schedules.schedule import Hard, Task, check_fits, firm, least
from hwprune.train.channels import norms_of, shrink_all

_PICKING = 0.3  # share of the steps in which GReg-2 lets all penalties grow
_GROWING = 0.7  # share of the others in which penalties grow, before they are held
_PICKED = 0.5  # GReg-2: what all are shrunk by before the choice, as an exponent
_APART = 1000.0  # a channel is over when those that stay weigh so many times as much
_MEAN = 0.9  # of the running mean of that ratio


class GReg1(Hard):
    """See the module.

    Args:
        delta: What a penalty grows by, every `every` steps. The paper's is 1e-4.
        ceiling: At which it is held. The paper's is 1. By default both follow from the training:
            strong enough for its length, and its rate.
        every: Steps between two growths.
        pick: Penalty of all channels until the choice, in the paper 0.01 (GReg-2 alone).
    """

    name, picks = "greg1", False

    def __init__(
        self, delta: float | None = None, ceiling: float | None = None, every: int = 10,
        pick: float | None = None,
    ) -> None:  # fmt: skip
        self._delta, self._ceiling, self._every, self._pick = delta, ceiling, every, pick

    def plan(self, task: Task) -> int:
        """See `Schedule`."""
        super().plan(task)
        self.every = max(1, min(self._every, task.steps // 20))
        picking = _PICKING * task.steps if self.picks else 0.0
        growing = max(1.0, _GROWING * (task.steps - picking))
        self.ceiling = self._ceiling or firm(task.rate, growing)
        self.delta = self._delta or self.ceiling * self.every / growing
        self.picked_at = self._pick or 2 * _PICKED / (task.rate * max(1.0, picking))
        fitting = self.picked_at * self.every / max(1.0, picking)
        self.slow = self._delta / 10 if self._delta else fitting  # the paper's: a tenth of delta
        self.penalty, self.counted = 0.0, 0
        self.chosen = dict.fromkeys(task.removals, torch.zeros(0, dtype=torch.bool))
        self.apart = dict.fromkeys(task.removals, 0.0)
        needed = self.every * math.ceil(self.ceiling / self.delta)
        if self.picks:
            needed += self.every * math.ceil(self.picked_at / self.slow)
        if self._delta is None:
            needed = min(needed, task.steps)  # it was made to fit, but for rounding
        hint = "give more epochs, a larger delta or a lower ceiling"
        return check_fits(self.name, needed, task, hint)

    def begin(self) -> None:
        """See `Schedule`."""
        if not self.picks:
            self._choose()

    def after_step(self, rate: float) -> None:
        """Grows the penalty, shrinks whom it is on."""
        self.counted += 1
        due = self.counted % self.every == 0
        if due:
            self._grow()
        shrink_all(self.channels, {n: self._factors(n, rate) for n in self.channels})
        if due and all(map(self._has_chosen, self.channels)):
            self._compare()

    @property
    def done(self) -> bool:
        """Whether next to nothing is left of all that go."""
        return bool(self.apart) and min(self.apart.values()) >= _APART

    def kept(self) -> dict[str, tuple[int, ...]]:
        """See `Schedule`."""
        for name in self.channels:
            if self._has_chosen(name):
                self.gone[name] = self.chosen[name]
        return super().kept()

    def state(self) -> Mapping[str, Any]:
        """See `Hook`."""
        own = {
            "penalty": self.penalty,
            "counted": self.counted,
            "chosen": dict(self.chosen),
            "apart": dict(self.apart),
        }
        return {**super().state(), **own}

    def load(self, state: Mapping[str, Any]) -> None:
        """See `Hook`."""
        super().load(state)
        self.penalty, self.counted = state["penalty"], state["counted"]
        self.chosen = {name: chosen.bool() for name, chosen in state["chosen"].items()}
        self.apart = dict(state["apart"])

    def _factors(self, name: str, rate: float) -> Tensor:
        """What a step leaves of each channel: the penalty is on the chosen, at first on all."""
        width = self.channels[name].width
        whom = self.chosen[name].float() if self._has_chosen(name) else torch.ones(width)
        return torch.exp(-rate * self.penalty * whom)

    def _has_chosen(self, name: str) -> bool:
        return len(self.chosen[name]) > 0

    def _choose(self) -> None:
        """The channels to go, by mean magnitude now; from here on the penalty is theirs alone."""
        for name, norms in norms_of(self.channels).items():
            self.chosen[name] = least(norms, self.task.removals[name])
        self.penalty = 0.0

    def _grow(self) -> None:
        if all(map(self._has_chosen, self.channels)):
            self.penalty = min(self.ceiling, self.penalty + self.delta)
            return
        self.penalty += self.slow
        if self.penalty >= self.picked_at * (1 - 1e-9):
            self._choose()

    def _compare(self) -> None:
        """How many times as much the channels that stay weigh: a running mean."""
        for name, norms in norms_of(self.channels).items():
            chosen = self.chosen[name]
            ratio = float(norms[~chosen].mean() / norms[chosen].mean().clamp_min(1e-30))
            self.apart[name] += (1 - _MEAN) * (ratio - self.apart[name])


class GReg2(GReg1):
    """See the module and `GReg1`."""

    name, picks = "greg2", True
