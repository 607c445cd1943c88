"""What a search strategy is: from the evaluations so far to the next assignment to evaluate."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Protocol

import numpy as np

from hwprune.search.decode import Decoded, Decoder
from hwprune.search.problem import Assignment, Problem


@dataclass(frozen=True, slots=True)
class Task:
    """What a strategy may know; `warm` are multipliers that did well in a similar search."""

    problem: Problem
    decoder: Decoder
    budget_ns: float
    seed: int
    most_bytes: float = inf
    warm: tuple[Mapping[str, float], ...] = ()

    def random(self, step: int) -> np.random.Generator:
        """Random numbers of one step: a resumed search draws what it would have drawn."""
        return np.random.default_rng([self.seed, step])

    def decode(
        self, multipliers: Mapping[str, float] | None = None, fixed: Assignment | None = None
    ) -> Decoded:
        """The decoder under this task's bounds."""
        return self.decoder.decode(self.budget_ns, multipliers, fixed, self.most_bytes)


@dataclass(frozen=True, slots=True)
class Proposal:
    """An assignment within the budget, and the log2 multipliers it was decoded from."""

    assignment: dict[str, int]
    multipliers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Evaluated:
    """An assignment with its measured loss and predicted latency."""

    assignment: dict[str, int]
    loss: float
    latency_ns: float
    multipliers: Mapping[str, float] = field(default_factory=dict)


class Proposer(Protocol):
    """A strategy at work on one task; a function of the history only, so that it can resume."""

    def propose(self, history: Sequence[Evaluated]) -> Proposal | None:
        """The next assignment, or None if there is nothing left to try."""
        ...


@dataclass(frozen=True, slots=True)
class Strategy:
    """An entry of the catalogue."""

    summary: str
    needs: str
    create: Callable[[Task], Proposer]
