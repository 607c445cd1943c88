"""What a schedule is: a hook that decides, while a network is trained, which channels go."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hwprune.errors import UsageError
from hwprune.train.channels import Channels, shrink_all
from hwprune.train.hooks import Hook

_SHRUNK = 8.0  # a growing penalty leaves exp(-8) of a channel that nobody holds on to,
_FIRM = 0.5  # and ends by taking that share of a channel in every step, whoever holds on


@dataclass(frozen=True, slots=True)
class Task:
    """What a schedule has to do, and with what.

    Attributes:
        removals: Channels that go, by group; at least one stays.
        full: Width of each of these groups.
        steps: Of the training that it runs under.
        epoch: Steps of one epoch.
        rate: What a steady gradient moves weights by in a step.
    """

    removals: Mapping[str, int]
    full: Mapping[str, int]
    steps: int
    epoch: int
    rate: float


class Schedule(Hook):
    """Works on the `channels` it is bound to; what is left is told by `kept`.

    Attributes:
        share: Of the training that it takes; recovery without any constraint gets the rest.
        integers: Whether channels go while the network computes with integers already.
        criterion: That chooses the channels to go after the training, where `kept` does not.
    """

    share = 0.5
    integers = False
    criterion: str | None = None
    task: Task
    channels: Mapping[str, Channels]

    def bind(self, channels: Mapping[str, Channels], removals: Mapping[str, int]) -> None:
        """To the groups of a network, and how many channels of each are to go."""
        self.removals = dict(removals)
        self.channels = {name: channels[name] for name in removals}

    def start(self, steps: int, epoch: int, rate: float) -> None:
        """See `Hook`."""
        full = {name: found.width for name, found in self.channels.items()}
        self.plan(Task(self.removals, full, steps, epoch, rate))
        self.begin()

    def plan(self, task: Task) -> int:
        """Sets the schedule up for a task; the steps that it is going to take, foreseen.

        Raises UsageError where they do not fit the training: with what would.
        """
        self.task = task
        return task.steps

    def begin(self) -> None:
        """All is planned, and no step was taken."""

    def kept(self) -> dict[str, tuple[int, ...]]:
        """Channels that stay, ascending, by group: after the training."""
        return {n: remaining(least(c.norms(1), self.removals[n])) for n, c in self.channels.items()}


class Hard(Schedule):
    """Removes channels for ever, at times of its own."""

    def plan(self, task: Task) -> int:
        """See `Schedule`."""
        self.gone = {n: torch.zeros(task.full[n], dtype=torch.bool) for n in task.removals}
        return super().plan(task)

    def after_step(self, rate: float) -> None:
        """What went stays away."""
        shrink_all(self.channels, {n: ~gone for n, gone in self.gone.items() if bool(gone.any())})

    def kept(self) -> dict[str, tuple[int, ...]]:
        """See `Schedule`; what has not gone yet goes now, least norm first."""
        for name, count in self.removals.items():
            self.gone[name] = self._and_the_least(name, count)
        return {name: remaining(gone) for name, gone in self.gone.items()}

    def _and_the_least(self, name: str, count: int) -> Tensor:
        """Whether each channel is among `count`: those that went, and those of least norm."""
        norms = self.channels[name].norms(1).double()
        return least(torch.where(self.gone[name], -1.0, norms), count)

    def state(self) -> Mapping[str, Any]:
        """See `Hook`."""
        return {"gone": dict(self.gone)}

    def load(self, state: Mapping[str, Any]) -> None:
        """See `Hook`."""
        self.gone = {name: gone.bool() for name, gone in state["gone"].items()}


def firm(rate: float, steps: float) -> float:
    """A ceiling for penalties that grow to it in so many steps, in a line."""
    return max(2 * _SHRUNK / steps, _FIRM) / rate


def least(scores: Tensor, count: int) -> Tensor:
    """Whether each is among the `count` least, the first of equals."""
    chosen = torch.zeros(len(scores), dtype=torch.bool)
    chosen[scores.argsort(stable=True)[:count]] = True
    return chosen


def remaining(gone: Tensor) -> tuple[int, ...]:
    """Indices of those that have not gone."""
    return tuple(int(i) for i in (~gone).nonzero().ravel())


def check_fits(name: str, needed: int, task: Task, hint: str) -> int:
    """`needed`, if the training has so many steps. Raises UsageError with what would fit."""
    if needed <= task.steps:
        return needed
    epochs, given = needed / task.epoch, task.steps / task.epoch
    raise UsageError(
        f"schedule {name} takes {needed} steps ({epochs:.1f} epochs), its part of the training "
        f"has {task.steps} ({given:.1f} epochs)",
        hint,
    )
