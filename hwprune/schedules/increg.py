"""IncReg: a penalty for every channel that grows at a speed by rank (arXiv 1811.08390, 1804.09461).

The least important channels' factors grow fastest, those of channels ranked beyond what is to go
fall again; a channel whose factor reaches the ceiling goes for ever.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hwprune.schedules.schedule import Hard, Task, check_fits, firm
from hwprune.train.channels import norms_of, shrink_all

_U = 0.25  # the paper's: where the growth turns over, as a share of that of the least


def increment(rank: Tensor, count: int, u: float = _U) -> Tensor:
    """Growth of the factor of each rank (0: least important), as a share of the least one's.

    A exp(-a j) up to N1, centre-symmetric about (N1, u) beyond, 0 at j = `count`, the number of
    channels to go: negative for the ranks above (section 3.2 of 1804.09461).
    """
    alpha = math.log(2 / u) / count
    turn = math.log(1 / u) / alpha
    j = rank.double()
    falling = torch.exp(-alpha * j)
    return torch.where(j < turn, falling, 2 * u - torch.exp(-alpha * (2 * turn - j)))


class IncReg(Hard):
    """See the module.

    Args:
        ratio: Ceiling of the factors over the growth of the least important one's: the steps until
            the first channel goes. The paper's is 10,000; by default the largest that fits.
        ceiling: Of the factors, in the paper 2.5; by default what rate and `ratio` ask for.
    """

    def __init__(self, ratio: float | None = None, ceiling: float | None = None) -> None:
        self._ratio, self._ceiling = ratio, ceiling

    def plan(self, task: Task) -> int:
        """See `Schedule`: the steps follow from the growth, were the ranks never to change."""
        super().plan(task)
        each = max((steps_for(k) for k in task.removals.values()), default=0.0)
        self.ratio = self._ratio or 0.9 * max(1, task.steps) / max(each, 1e-9)
        self.ceiling = self._ceiling or firm(task.rate, self.ratio)
        self.factors = {n: torch.zeros(w, dtype=torch.float64) for n, w in self._widths()}
        self.ranks = {n: torch.zeros(w, dtype=torch.float64) for n, w in self._widths()}
        self.counted = 0
        needed = min(math.ceil(each * self.ratio), task.steps if self._ratio is None else 1 << 62)
        longest = math.floor(task.steps / max(each, 1e-9))
        hint = f"give more epochs, or a ratio of at most {longest}"
        return check_fits("increg", needed, task, hint)

    def after_step(self, rate: float) -> None:
        """Ranks, growth, shrinking and what reaches the ceiling."""
        self.counted += 1
        shrunk = {}
        for name, norms in norms_of(self.channels).items():
            if self._left(name):
                self._grow(name, norms)
            factors = torch.exp(-rate * self.factors[name])
            self.gone[name] |= self._over(name)
            shrunk[name] = torch.where(self.gone[name], 0.0, factors)
            if not self._left(name):
                self.factors[name].zero_()  # what stays is penalised no longer
        shrink_all(self.channels, shrunk)

    @property
    def done(self) -> bool:
        """Whether all have gone."""
        return not any(map(self._left, self.gone))

    def state(self) -> Mapping[str, Any]:
        """See `Hook`."""
        own = {"factors": dict(self.factors), "ranks": dict(self.ranks), "counted": self.counted}
        return {**super().state(), **own}

    def load(self, state: Mapping[str, Any]) -> None:
        """See `Hook`."""
        super().load(state)
        self.factors, self.ranks = dict(state["factors"]), dict(state["ranks"])
        self.counted = state["counted"]

    def _widths(self) -> list[tuple[str, int]]:
        return [(name, self.task.full[name]) for name in self.task.removals]

    def _grow(self, name: str, norms: Tensor) -> None:
        gone = self.gone[name]
        now = _rank(torch.where(gone, -1.0, norms.double()))
        self.ranks[name] += (now - self.ranks[name]) / self.counted
        order = _rank(torch.where(gone, -1.0, self.ranks[name])) - int(gone.sum())
        growth = increment(order, self._left(name)) * self.ceiling / self.ratio
        grown = (self.factors[name] + growth).clamp_min(0)
        self.factors[name] = torch.where(gone, 0.0, grown)

    def _over(self, name: str) -> Tensor:
        """Those at the ceiling, the first of them where more are than may go."""
        over = (self.factors[name] >= self.ceiling) & ~self.gone[name]
        order = torch.where(over, self.ranks[name], math.inf).argsort(stable=True)
        allowed = torch.zeros_like(over)
        allowed[order[: self._left(name)]] = True
        return over & allowed

    def _left(self, name: str) -> int:
        """Channels that are still to go."""
        return max(0, self.task.removals[name] - int(self.gone[name].sum()))


def steps_for(count: int) -> float:
    """Steps until `count` channels have gone, for a ratio of 1 and ranks that never change."""
    factors = torch.zeros(count, dtype=torch.float64)
    total = 0.0
    for gone in range(count):  # from one removal to the next, every factor grows in a line
        growth = increment(torch.arange(count - gone), count - gone)
        waits = (1 - factors[gone:]) / growth
        wait = float(waits.min())
        factors[gone:] += wait * growth
        total += wait
    return total


def _rank(scores: Tensor) -> Tensor:
    """0 for the least, 1 for the next, ...; double."""
    ranks = torch.empty(len(scores), dtype=torch.float64)
    ranks[scores.argsort(stable=True)] = torch.arange(len(scores), dtype=torch.float64)
    return ranks
