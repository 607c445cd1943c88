"""Bayesian optimisation of one layer at a time, deepest first (Guerra et al., arXiv 2002.00523).

Theirs trades accuracy against size by a weight; here every probe is completed by the decoder to an
assignment that meets the budget: what one layer keeps, the layers not decided yet pay for.
"""

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from hwprune.search.problem import Variable, key_of
from hwprune.search.strategy import Evaluated, Proposal, Task
from hwprune.search.surrogate import most_promising

_EACH = 13  # evaluations of a layer, as published
_PROBES = 3  # of them at both ends and in the middle
_FEWEST = 3


class Layerwise:
    """Decides the widths one by one and never comes back."""

    def __init__(self, task: Task) -> None:
        self._task = task
        afford = task.evaluations // max(1, len(task.kept))
        self._each = min(_EACH, max(_FEWEST, afford))
        self._chosen: dict[tuple[object, ...], int] = {}
        self._fitting: dict[tuple[object, ...], dict[int, dict[str, int]]] = {}

    def propose(self, history: Sequence[Evaluated]) -> Proposal | None:
        """The next probe of the first layer that is not decided."""
        losses = {e.key: e.loss for e in history}
        decided: dict[str, int] = {}
        for v in reversed(self._task.kept):
            probed: dict[int, float] = {}
            for option, assignment in islice(self._probes(v, decided, probed), self._each):
                if (key := key_of(assignment)) not in losses:
                    return Proposal(assignment)
                probed[option] = losses[key]
            if probed:
                decided[v.name] = min(probed, key=lambda o: (probed[o], -o))
        return None

    def _probes(
        self, v: Variable, decided: dict[str, int], probed: dict[int, float]
    ) -> Iterator[tuple[int, dict[str, int]]]:
        """Options of a layer, completed, in the order they are worth trying after `probed`."""
        fitting = dict(self._completions(v, decided))
        ends = sorted(fitting)[:: max(1, (len(fitting) - 1) // (_PROBES - 1))][:_PROBES]
        for option in ends:
            yield option, fitting.pop(option)
        while fitting:
            key = (v.name, *decided.values(), *probed.items())
            if key not in self._chosen:
                self._chosen[key] = self._choice(v, probed, sorted(fitting))
            option = self._chosen[key]
            yield option, fitting.pop(option)

    def _completions(self, v: Variable, decided: dict[str, int]) -> dict[int, dict[str, int]]:
        """By option, remembered: the layers before are decided once, and asked for every time."""
        key = (v.name, *decided.values())
        if key not in self._fitting:
            options = ((o, self._task.completed({**decided, v.name: o})) for o in range(v.size))
            self._fitting[key] = {o: found for o, found in options if found is not None}
        return self._fitting[key]

    def _choice(self, v: Variable, probed: dict[int, float], left: list[int]) -> int:
        seen = np.array([[o / max(1, v.size - 1)] for o in probed])
        ahead = np.array([[o / max(1, v.size - 1)] for o in left])
        losses = np.array(list(probed.values()))
        return left[most_promising(seen, losses, ahead, self._task.seed) or 0]
