"""Evolution with repair: children of good parents, mutated, made to fit the budget."""

from collections.abc import Sequence

import numpy as np

from hwprune.search.baselines import Random, uniform, unseen
from hwprune.search.repair import repaired
from hwprune.search.strategy import Evaluated, Proposal, Task

_POPULATION = 20
_TOURNAMENT = 3
_TRIES = 50


class Evolution:
    """Steady state: the best are the population, and every child is evaluated before the next."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def propose(self, history: Sequence[Evaluated]) -> Proposal | None:
        """Uniform and random ones first, then children."""
        if not history:
            return Proposal(uniform(self._task))
        if len(history) < min(_POPULATION, self._task.evaluations // 4):
            return Random(self._task).propose(history)
        population = sorted(history, key=lambda e: e.loss)[:_POPULATION]
        rng = self._task.random(len(history))
        children = (self._child(population, rng) for _ in range(_TRIES))
        return unseen(children, history) or Random(self._task).propose(history)

    def _child(self, population: Sequence[Evaluated], rng: np.random.Generator) -> Proposal:
        """Uniform crossover of two tournament winners; one variable in a hundred to one mutates."""
        mother, father = (self._winner(population, rng) for _ in range(2))
        child = {
            v: o if rng.random() < 0.5 else father.assignment[v]
            for v, o in mother.assignment.items()
        }
        kept = self._task.kept
        mutates = rng.random(len(kept)) < 1 / len(kept)
        mutates[rng.integers(len(kept))] = True
        for v in (v for v, m in zip(kept, mutates, strict=True) if m):
            child[v.name] = int(rng.integers(v.size))
        return Proposal(repaired(self._task, child, rng))

    def _winner(self, population: Sequence[Evaluated], rng: np.random.Generator) -> Evaluated:
        """The best of a few: the population is sorted."""
        return population[int(rng.integers(len(population), size=_TOURNAMENT).min())]
