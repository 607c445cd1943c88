"""NetAdapt (arXiv 1804.03230): every layer in turn pays for the next step towards the budget.

The cheapest payer by measured loss is taken, and the step after that begins from there.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import inf

from hwprune.search.problem import key_of
from hwprune.search.repair import reliefs
from hwprune.search.strategy import Evaluated, Proposal, Task

_FEWEST_STEPS = 4


class NetAdapt:
    """Greedy descent from the untouched widths, with the precisions of the plain knapsack."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._knapsack = task.decode().assignment
        self._start = self._knapsack | {v.name: v.neutral for v in task.kept}

    def propose(self, history: Sequence[Evaluated]) -> Proposal | None:
        """The next payer not tried yet, in the first step that is not decided."""
        losses = {e.key: e.loss for e in history}
        for assignment in self._path(losses):
            return Proposal(assignment, step=self._task.used(assignment) > 1.0)
        return None

    def _path(self, losses: Mapping[tuple[int, ...], float]) -> Iterator[dict[str, int]]:
        """What must be evaluated before the descent can go on; nothing where it has ended."""
        present = self._start
        if key_of(present) not in losses:
            yield present
            return
        steps, payers = self._plan()
        first = self._task.used(present)
        for step in range(1, steps + 1):
            target = first ** (1 - step / steps)
            if self._task.used(present) <= target:
                continue
            candidates = self._candidates(present, target, payers)
            waiting = [c for c in candidates if key_of(c) not in losses]
            yield from waiting
            if waiting:
                return
            present = self._cheapest(present, candidates, losses)

    def _plan(self) -> tuple[int, int]:
        """Steps, and payers tried in each, so that the evaluations last."""
        left = max(1, self._task.evaluations - 1)
        payers = max(1, min(len(self._task.kept), left // _FEWEST_STEPS))
        return max(1, left // payers), payers

    def _candidates(
        self, present: dict[str, int], target: float, payers: int
    ) -> list[dict[str, int]]:
        """The assignments in which one layer pays; where none can alone, several do unasked."""
        found = []
        for v in self._task.kept:
            for option in reversed(range(present[v.name])):
                changed = {**present, v.name: option}
                if self._task.used(changed) <= target:
                    found.append(self._task.problem.settled(changed))
                    break
        found = sorted(found, key=self._task.problem.estimated_loss)[:payers]
        return found or [self._relieved(present, target)]

    def _relieved(self, present: dict[str, int], target: float) -> dict[str, int]:
        """Several layers shrunk, least estimated loss first; the knapsack where that ends."""
        found = dict(present)
        estimate = self._task.problem.estimated_loss
        while self._task.used(found) > target:
            options = [{**found, **change} for change in reliefs(self._task, found)]
            if not options:
                return self._knapsack
            found = min(options, key=estimate)
        return self._task.problem.settled(found)

    def _cheapest(
        self,
        present: dict[str, int],
        candidates: Sequence[dict[str, int]],
        losses: Mapping[tuple[int, ...], float],
    ) -> dict[str, int]:
        """By measured loss per share of the budget that is saved."""
        before, used = losses[key_of(present)], self._task.used(present)

        def price(candidate: dict[str, int]) -> float:
            saved = used - self._task.used(candidate)
            return (losses[key_of(candidate)] - before) / saved if saved > 0 else inf

        return min(candidates, key=price)
