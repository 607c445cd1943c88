"""What a search strategy is: from the evaluations so far to the next assignment to evaluate."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from hwprune.errors import InfeasibleError
from hwprune.search.decode import Decoded, Decoder
from hwprune.search.problem import Assignment, Problem, Variable, key_of

REACH = 2.0  # multipliers stay within 2 ** -2 and 2 ** 2


@dataclass(frozen=True, slots=True)
class Task:
    """What a strategy may know.

    `evaluations` is how many it gets, `warm` are multipliers that did well in a similar search.
    """

    problem: Problem
    decoder: Decoder
    budget_ns: float
    seed: int
    warm: tuple[Mapping[str, float], ...] = ()
    evaluations: int = 100

    @property
    def kept(self) -> tuple[Variable, ...]:
        """Widths and branches: what plain searches choose, and leave precisions to the decoder."""
        return tuple(v for v in self.problem.variables if not v.is_precision)

    def random(self, step: int) -> np.random.Generator:
        """Random numbers of one step: a resumed search draws what it would have drawn."""
        return np.random.default_rng([self.seed, step])

    def decode(
        self, multipliers: Mapping[str, float] | None = None, fixed: Assignment | None = None
    ) -> Decoded:
        """The decoder under this task's budget."""
        return self.decoder.decode(self.budget_ns, multipliers, fixed)

    def completed(self, fixed: Assignment) -> dict[str, int] | None:
        """The decoder's choice of everything that is not fixed; None where nothing fits."""
        try:
            return self.decode(fixed=fixed).assignment
        except InfeasibleError:
            return None

    def used(self, assignment: Assignment) -> float:
        """Share of the tightest bound that an assignment takes: at most 1 if it fits."""
        time = self.problem.latency_ns(assignment) / self.budget_ns
        return max([time, *(b.of(assignment) / b.most for b in self.problem.bounds)])


@dataclass(frozen=True, slots=True)
class Proposal:
    """An assignment within the budget, and the log2 multipliers it was decoded from.

    Unless it is a `step` on the way there, which may be over it and is never the answer.
    """

    assignment: dict[str, int]
    multipliers: Mapping[str, float] = field(default_factory=dict)
    step: bool = False


@dataclass(frozen=True, slots=True)
class Evaluated:
    """An assignment with its measured loss and predicted latency."""

    assignment: dict[str, int]
    loss: float
    latency_ns: float
    multipliers: Mapping[str, float] = field(default_factory=dict)
    step: bool = False

    @property
    def key(self) -> tuple[int, ...]:
        """Of its assignment."""
        return key_of(self.assignment)


class Proposer(Protocol):
    """A strategy at work on one task; a function of the history only, so that it can resume."""

    def propose(self, history: Sequence[Evaluated]) -> Proposal | None:
        """The next assignment, or None if there is nothing left to try."""
        ...
