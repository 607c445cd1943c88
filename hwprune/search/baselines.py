"""The plain strategies, which Bayesian optimisation has to beat."""

from collections.abc import Mapping, Sequence

from hwprune.errors import InfeasibleError
from hwprune.search.strategy import Evaluated, Proposal, Task

_TRIES = 50  # random draws that all decode to something seen end a search


class Knapsack:
    """One evaluation: the estimates are believed as they are."""

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


class Random:
    """Random multipliers, decoded: random search that meets the budget."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def propose(self, history: Sequence[Evaluated]) -> Proposal | None:
        """The next draw that decodes to something new."""
        seen = {tuple(e.assignment.items()) for e in history}
        rng = self._task.random(len(history))
        for _ in range(_TRIES):
            draw = rng.uniform(-2, 2, len(self._task.problem.knobs))
            x = dict(zip(self._task.problem.knobs, draw.tolist(), strict=True))
            assignment = self._task.decode(x).assignment
            if tuple(assignment.items()) not in seen:
                return Proposal(assignment, x)
        return None


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
            held = _at_share(task, shares[middle], kept)
            try:
                found = task.decode(fixed=held).assignment
                low = middle + 1
            except InfeasibleError:
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
