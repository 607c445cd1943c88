"""Schedules without a penalty: all at once, or a few at a time."""

import math
from collections.abc import Mapping
from typing import Any

from hwprune.schedules.schedule import Hard, Task


class Iterative(Hard):
    """The channels of least norm go in rounds, with training in between (Han et al. 2015).

    Args:
        rounds: Equally many channels go in each.
    """

    def __init__(self, rounds: int = 5) -> None:
        self.rounds = rounds

    def plan(self, task: Task) -> int:
        """See `Schedule`."""
        super().plan(task)
        self.every, self.counted = max(1, task.steps // self.rounds), 0
        return task.steps

    def after_step(self, rate: float) -> None:
        """A round begins with its removals: the first one with the first step."""
        if self.counted % self.every == 0:
            done = min(1.0, (self.counted // self.every + 1) / self.rounds)
            for name, count in self.task.removals.items():
                self.gone[name] = self._and_the_least(name, math.ceil(done * count))
        self.counted += 1
        super().after_step(rate)

    def state(self) -> Mapping[str, Any]:
        """See `Hook`."""
        return {**super().state(), "counted": self.counted}

    def load(self, state: Mapping[str, Any]) -> None:
        """See `Hook`."""
        super().load(state)
        self.counted = state["counted"]
