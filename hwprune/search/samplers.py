"""Optuna's own samplers over the multipliers: what a general optimiser does with the decoder."""

import warnings
from collections.abc import Callable, Sequence
from math import isfinite
from typing import TYPE_CHECKING

import numpy as np

from hwprune.search.problem import key_of
from hwprune.search.strategy import REACH, Evaluated, Proposal, Task
from hwprune.search.surrogate import one_thread

if TYPE_CHECKING:
    import optuna

_TRIES = 200  # draws that decode to what is known are looked up, not evaluated again

Make = Callable[[int], "optuna.samplers.BaseSampler"]


class Sampler:
    """Asks a sampler for multipliers, each decoded to the budget; starts from the knapsack."""

    def __init__(self, task: Task, make: Make) -> None:
        self._task, self._make = task, make

    def propose(self, history: Sequence[Evaluated]) -> Proposal | None:
        """What the sampler asks for next, told all that was evaluated."""
        if not history:
            return Proposal(self._task.decode().assignment)
        study, space = self._told(history)
        losses = {e.key: e.loss for e in history}
        for _ in range(_TRIES):
            with one_thread(self._task.seed), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                trial = study.ask(space)
            x = {knob: float(trial.params[knob]) for knob in space}
            assignment = self._task.decode(x).assignment
            key = key_of(assignment)
            if key not in losses:
                return Proposal(assignment, x)
            study.tell(trial, _finite(losses[key], list(losses.values())))
        return None

    def _told(
        self, history: Sequence[Evaluated]
    ) -> tuple["optuna.Study", "dict[str, optuna.distributions.BaseDistribution]"]:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)  # of slower suggestions
        space: dict[str, optuna.distributions.BaseDistribution] = {
            knob: optuna.distributions.FloatDistribution(-REACH, REACH)
            for knob in self._task.problem.knobs
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sampler = self._make(int(self._task.random(len(history)).integers(2**31)))
        study = optuna.create_study(sampler=sampler)
        losses = [e.loss for e in history]
        for e in history:
            params = {knob: float(np.clip(e.multipliers.get(knob, 0.0), -2, 2)) for knob in space}
            study.add_trial(
                optuna.trial.create_trial(
                    params=params, distributions=space, value=_finite(e.loss, losses)
                )
            )
        return study, space


def tpe(task: Task) -> Sampler:
    """Tree-structured Parzen estimators, all multipliers together."""

    def make(seed: int) -> "optuna.samplers.BaseSampler":
        import optuna

        return optuna.samplers.TPESampler(seed=seed, multivariate=True)

    return Sampler(task, make)


def gp(task: Task) -> Sampler:
    """Optuna's Gaussian process; its length scales do not grow with the dimension."""

    def make(seed: int) -> "optuna.samplers.BaseSampler":
        import optuna

        return optuna.samplers.GPSampler(seed=seed, deterministic_objective=True)

    return Sampler(task, make)


def _finite(loss: float, losses: Sequence[float]) -> float:
    """A loss that a sampler can use: the worst one for what failed."""
    return loss if isfinite(loss) else max((v for v in losses if isfinite(v)), default=0.0)
