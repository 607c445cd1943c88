"""Bayesian optimisation over what the latency table does not know: which layers can spare channels.

A point is one log2 multiplier per knob; the decoder turns it into an assignment that meets the
budget, so no evaluation is infeasible. x = 0 is the plain knapsack and comes first: the search can
only improve on it. The surrogate lives on the decoded assignments, many x being one assignment.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import ceil, inf

import numpy as np

from hwprune.search.baselines import RandomWeights, uniform
from hwprune.search.factors import Floats
from hwprune.search.problem import Assignment, key_of
from hwprune.search.strategy import REACH, Evaluated, Proposal, Task
from hwprune.search.surrogate import most_promising
from hwprune.search.weights import draw_multipliers

_CANDIDATES = 48
_REDECIDED = 8  # every so many decides the kernels anew
_LENGTH, _SHORTEST = 0.8, 2.0**-5  # trust region (TuRBO, arXiv 1910.01739), as a share of the box
_SUCCESSES = 3

_Key = tuple[int, ...]


class Bayes:
    """Seeds; then by turns the additive model's optimum and the GP's choice of candidates."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._knobs = task.problem.knobs
        self._seeding: list[Proposal] = []
        self._seeds: Iterator[Proposal] | None = None

    def propose(self, history: Sequence[Evaluated]) -> Proposal | None:
        """The next assignment; every choice depends on the history and the seed only."""
        seen = {e.key for e in history}
        if len(history) < self._seed_count():
            for proposal in self._seed_proposals():
                if key_of(proposal.assignment) not in seen:
                    return proposal
        fresh = self._fresh(history, seen)
        if len(history) % 2:  # every other step believes the additive model outright
            return next(fresh, None) or RandomWeights(self._task).propose(history)
        candidates = list(fresh)
        if not candidates:
            return RandomWeights(self._task).propose(history)
        chosen = most_promising(
            self._features([e.assignment for e in history]),
            np.array([e.loss for e in history]),
            self._features([c.assignment for c in candidates]),
            self._task.seed,
        )
        return candidates[chosen or 0]

    def _seed_count(self) -> int:
        return min(20, max(6, len(self._knobs) // 2))

    def _seed_proposals(self) -> Iterator[Proposal]:
        """All seeds in order; made once, as far as needed."""
        yield from self._seeding
        if self._seeds is None:
            self._seeds = self._make_seeds()
        for proposal in self._seeds:
            self._seeding.append(proposal)
            yield proposal

    def _make_seeds(self) -> Iterator[Proposal]:
        """The knapsack, what did well before, uniform, deep and shallow layers first, random."""
        yield Proposal(self._task.decode().assignment)
        for multipliers in self._task.warm:
            yield Proposal(self._task.decode(multipliers).assignment, multipliers)
        yield Proposal(uniform(self._task))
        ramp = np.linspace(1.0, -1.0, len(self._knobs))
        rng = self._task.random(0)
        fixed = self._kernels()
        for x in (ramp, -ramp):
            yield self._decode(x, fixed)
        for i in rng.permutation(len(self._knobs))[: len(self._knobs) // 4]:
            yield self._decode(1.5 * rng.choice([-1.0, 1.0]) * np.eye(len(self._knobs))[i], fixed)
        for _ in range(4 * self._seed_count()):
            yield self._decode(rng.normal(0.0, 0.8, len(self._knobs)), fixed)

    def _fresh(self, history: Sequence[Evaluated], seen: set[_Key]) -> Iterator[Proposal]:
        """Decoded candidates never evaluated, each once; the posterior mean's comes first."""
        rng = self._task.random(len(history))
        local = self._around_best(history, rng, _CANDIDATES // 2)
        drawn = self._from_posterior(history, rng, _CANDIDATES // 2)
        kernels = self._kernels()
        known = set(seen)
        for i, x in enumerate(np.clip(np.vstack([drawn, local]), -REACH, REACH)):
            redecided = i % _REDECIDED == _REDECIDED - 1
            proposal = self._decode(x, {} if redecided else kernels)
            key = key_of(proposal.assignment)
            if key not in known:
                known.add(key)
                yield proposal

    def _around_best(
        self, history: Sequence[Evaluated], rng: np.random.Generator, count: int
    ) -> Floats:
        best = min(history, key=lambda e: e.loss)
        centre = np.array([best.multipliers.get(k, 0.0) for k in self._knobs])
        moved = rng.random((count, len(centre))) < min(20 / max(len(centre), 1), 1.0)
        reach = REACH * trust_length([e.loss for e in history], len(centre))
        return np.asarray(centre + moved * rng.uniform(-reach, reach, moved.shape), np.float64)

    def _from_posterior(
        self, history: Sequence[Evaluated], rng: np.random.Generator, count: int
    ) -> Floats:
        usable = [e for e in history if e.loss < inf]
        if len(usable) < 4:
            return rng.uniform(-1.0, 1.0, (count, len(self._knobs)))
        contributions = np.array([self._contributions(e.assignment) for e in usable])
        return draw_multipliers(contributions, np.array([e.loss for e in usable]), count, rng)

    def _contributions(self, assignment: Assignment) -> list[float]:
        sums = dict.fromkeys(self._knobs, 0.0)
        for factor in self._task.problem.loss:
            if factor.knob is not None:
                sums[factor.knob] += factor.at(assignment)
        return list(sums.values())

    def _features(self, assignments: Sequence[Assignment]) -> Floats:
        """Options as fractions in [0, 1] (rows x variables)."""
        variables = self._task.problem.variables
        rows = [[a[v.name] / max(v.size - 1, 1) for v in variables] for a in assignments]
        return np.array(rows, np.float64)

    def _kernels(self) -> dict[str, int]:
        """The plain knapsack's kernels; holding them makes a decode several times faster."""
        plain = next(self._seed_proposals()).assignment
        return {v.name: plain[v.name] for v in self._task.problem.variables if v.is_kernel}

    def _decode(self, x: Floats, fixed: Mapping[str, int]) -> Proposal:
        multipliers = dict(zip(self._knobs, x.tolist(), strict=True))
        return Proposal(self._task.decode(multipliers, fixed).assignment, multipliers)


def trust_length(losses: Sequence[float], dimensions: int) -> float:
    """TuRBO's rule replayed: doubled after successes in a row, halved after failures, restarted."""
    patience = max(4, ceil(dimensions / 4))
    length, best = _LENGTH, inf
    successes = failures = 0
    for loss in losses:
        better = loss < best
        best = min(best, loss)
        successes, failures = (successes + 1, 0) if better else (0, failures + 1)
        if successes == _SUCCESSES:
            length, successes = min(1.0, 2 * length), 0
        elif failures == patience:
            length, failures = length / 2, 0
            if length < _SHORTEST:
                length = _LENGTH
    return length
