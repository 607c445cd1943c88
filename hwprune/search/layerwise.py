"""Bayesian optimisation of one layer at a time, deepest first (Guerra et al., arXiv 2002.00523).

As published: up to 40 % of a layer's channels go; 0, 20 and 40 % are tried, then 5 at random, then
5 that a Gaussian process (Matern 5/2) finds promising, and the best stays. Theirs trades accuracy
against size by a weight and retrains after every layer; here every probe is completed by the
decoder to an assignment that meets the budgets, and nothing is trained: what one layer keeps, the
layers not decided yet pay for.
"""

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from hwprune.search.problem import Variable, key_of
from hwprune.search.strategy import Evaluated, Proposal, Task
from hwprune.search.surrogate import most_promising

_EACH = 13  # evaluations of a layer: three fixed ones, half of the others at random
_FIXED = (0.0, 0.2, 0.4)  # shares of the channels that go
_MOST_CUT = 0.4 + 1e-9  # and rounding
_FEWEST = 3


class Layerwise:
    """Decides the widths one by one and never comes back.

    A layer of fewer options has each of them tried; where evaluations are too few for all layers,
    each gets fewer of them. A probe whose loss is known already counts and is not made again.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._widths = [v for v in task.problem.variables if v.name.startswith("width:")]
        afford = task.evaluations // max(1, len(self._widths))
        self._each = min(_EACH, max(_FEWEST, afford))
        self._chosen: dict[tuple[object, ...], int] = {}
        self._fitting: dict[tuple[object, ...], dict[int, dict[str, int]]] = {}

    def propose(self, history: Sequence[Evaluated]) -> Proposal | None:
        """The next probe of the first layer that is not decided."""
        return self._replay(history)[1]

    def trace(self, history: Sequence[Evaluated]) -> dict[str, dict[int, float]]:
        """What the probes of every layer lost, by option, deepest first; the least is decided."""
        return self._replay(history)[0]

    def _replay(
        self, history: Sequence[Evaluated]
    ) -> tuple[dict[str, dict[int, float]], Proposal | None]:
        """What is known of every layer, and what is asked next."""
        losses = {e.key: e.loss for e in history}
        trace: dict[str, dict[int, float]] = {}
        for v in reversed(self._widths):
            decided = {name: _best(probed) for name, probed in trace.items() if probed}
            probed = trace[v.name] = {}
            for option, assignment in islice(self._probes(v, decided, probed), self._each):
                if (key := key_of(assignment)) not in losses:
                    return trace, Proposal(assignment)
                probed[option] = losses[key]
        return trace, None

    def _probes(
        self, v: Variable, decided: dict[str, int], probed: dict[int, float]
    ) -> Iterator[tuple[int, dict[str, int]]]:
        """Options of a layer, completed, in the order they are worth trying after `probed`."""
        left = dict(self._completions(v, decided))
        for share in _FIXED[: len(left)]:
            nearest = min(left, key=lambda o: (abs(v.cut(o) - share), -o))
            yield nearest, left.pop(nearest)
        drawn = self._task.random(len(decided)).permutation(sorted(left))
        for option in drawn[: (self._each - len(_FIXED)) // 2].tolist():
            yield option, left.pop(option)
        while left:
            key = (v.name, *decided.values(), *probed.items())
            if key not in self._chosen:
                self._chosen[key] = self._choice(v, probed, sorted(left))
            option = self._chosen[key]
            yield option, left.pop(option)

    def _completions(self, v: Variable, decided: dict[str, int]) -> dict[int, dict[str, int]]:
        """By option, remembered: the layers before are decided once, and asked for every time.

        Where the budgets cannot be met by 40 % of this layer, it may lose more.
        """
        key = (v.name, *decided.values())
        if key not in self._fitting:
            moderate = [o for o in range(v.size) if v.cut(o) <= _MOST_CUT]
            found = self._completed(v, decided, moderate)
            self._fitting[key] = found or self._completed(v, decided, range(v.size))
        return self._fitting[key]

    def _completed(
        self, v: Variable, decided: dict[str, int], options: Sequence[int]
    ) -> dict[int, dict[str, int]]:
        pairs = ((o, self._task.completed({**decided, v.name: o})) for o in options)
        return {option: found for option, found in pairs if found is not None}

    def _choice(self, v: Variable, probed: dict[int, float], left: list[int]) -> int:
        seen, ahead = (np.array([[v.cut(o)] for o in options]) for options in (probed, left))
        widest = max(seen.max(), ahead.max()) or 1.0
        losses = np.array(list(probed.values()))
        return left[most_promising(seen / widest, losses, ahead / widest, self._task.seed) or 0]


def _best(probed: dict[int, float]) -> int:
    """The option of least loss, of several the widest."""
    return min(probed, key=lambda o: (probed[o], -o))
