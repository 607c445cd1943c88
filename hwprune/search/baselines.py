"""The plain strategies, which Bayesian optimisation has to beat."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from math import prod

import numpy as np

from hwprune.errors import UsageError
from hwprune.search.problem import key_of
from hwprune.search.repair import repaired
from hwprune.search.strategy import REACH, Evaluated, Proposal, Task

_TRIES = 50  # random draws that are all known end a search
_TINY = 1_000_000  # assignments


class Knapsack:
    """One evaluation: the estimates are believed as they are (HALP, arXiv 2110.10811)."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def propose(self, history: Sequence[Evaluated]) -> Proposal | None:
        """The plain decode, once."""
        return None if history else Proposal(self._task.decode().assignment)


class Uniform:
    """One evaluation: every layer keeps the same share of its channels."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def propose(self, history: Sequence[Evaluated]) -> Proposal | None:
        """The largest share that meets the budget, once."""
        return None if history else Proposal(uniform(self._task))


class _Drawn(ABC):
    """Draws until one is new."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def propose(self, history: Sequence[Evaluated]) -> Proposal | None:
        """The next draw that is new; None where many in a row are not."""
        rng = self._task.random(len(history))
        return unseen((self._draw(rng) for _ in range(_TRIES)), history)

    @abstractmethod
    def _draw(self, rng: np.random.Generator) -> Proposal: ...


class Random(_Drawn):
    """Random widths and branches, repaired: random search that meets the budget."""

    def _draw(self, rng: np.random.Generator) -> Proposal:
        drawn = self._task.decode().assignment
        drawn |= {v.name: int(rng.integers(v.size)) for v in self._task.kept}
        return Proposal(repaired(self._task, drawn, rng))


class RandomWeights(_Drawn):
    """Random multipliers, decoded: random search that knows the estimates."""

    def _draw(self, rng: np.random.Generator) -> Proposal:
        knobs = self._task.problem.knobs
        x = dict(zip(knobs, rng.uniform(-REACH, REACH, len(knobs)).tolist(), strict=True))
        return Proposal(self._task.decode(x).assignment, x)


class Exhaustive:
    """Every assignment that fits, likeliest first: for tiny spaces, where it is the truth."""

    def __init__(self, task: Task) -> None:
        count = prod(v.size for v in task.problem.variables)
        if count > _TINY:
            raise UsageError(
                f"{count:.1e} assignments cannot be searched one by one",
                f"at most {_TINY} can: choose another --search",
            )
        problem = task.problem
        names = [v.name for v in problem.variables]
        options = product(*(range(v.size) for v in problem.variables))
        found = (dict(zip(names, at, strict=True)) for at in options)
        fitting = (problem.settled(a) for a in found if task.used(a) <= 1.0)
        distinct = {tuple(a.values()): a for a in fitting}.values()
        self._ordered = sorted(distinct, key=problem.estimated_loss)
        if not self._ordered:
            task.decode()  # says what is the least reachable

    def propose(self, history: Sequence[Evaluated]) -> Proposal | None:
        """The next one in the order of the estimates."""
        return unseen(map(Proposal, self._ordered), history)


def unseen(proposals: Iterator[Proposal], history: Sequence[Evaluated]) -> Proposal | None:
    """The first proposal that was not evaluated yet."""
    known = {e.key for e in history}
    return next((p for p in proposals if key_of(p.assignment) not in known), None)


def uniform(task: Task) -> dict[str, int]:
    """One keep share for all widths, the largest that meets the budget.

    Kernels are decided at those widths; branches stay unless no share would do with them.
    """
    for kept in ("width:", "branch:"), ("width:",):
        shares = sorted({(o + 1) / v.size for v in task.problem.variables for o in range(v.size)})
        low, high = 0, len(shares) - 1
        found: dict[str, int] | None = None
        while low <= high:  # a larger share costs more
            middle = (low + high) // 2
            if (at := task.completed(_at_share(task, shares[middle], kept))) is not None:
                found, low = at, middle + 1
            else:
                high = middle - 1
        if found is not None:
            return found
    return task.decode().assignment


def _at_share(task: Task, share: float, kinds: Sequence[str]) -> Mapping[str, int]:
    """The options nearest to the share; branches kept."""
    found: dict[str, int] = {}
    for v in task.problem.variables:
        if v.name.startswith(tuple(kinds)):
            is_width = v.name.startswith("width:")
            found[v.name] = max(0, round(share * v.size) - 1) if is_width else v.neutral
    return found
