"""One search: a strategy proposes, the caller evaluates, Optuna keeps the trials.

Every proposal meets the budget before it is evaluated. With a storage the trials survive the
process: the same call again continues where it stopped, and nothing is evaluated twice.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import inf, isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from hwprune.errors import HwpruneError, StoreError, UsageError
from hwprune.registry import unknown
from hwprune.search.catalogue import STRATEGIES
from hwprune.search.decode import Decoder
from hwprune.search.problem import Assignment, Problem
from hwprune.search.strategy import Evaluated, Proposal, Proposer, Task

if TYPE_CHECKING:
    import optuna

Evaluate = Callable[[Assignment], float]
Progress = Callable[[int, int, float], None]


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search found; `best_so_far` is the least loss after each evaluation."""

    best: Evaluated
    evaluated: tuple[Evaluated, ...]
    best_so_far: tuple[float, ...]


def search(
    problem: Problem,
    budget_ns: float,
    evaluate: Evaluate,
    strategy: str = "bo",
    evaluations: int = 100,
    seed: int = 0,
    storage: Path | None = None,
    progress: Progress | None = None,
    seconds: float | None = None,
    warm: Sequence[Mapping[str, float]] = (),
    enough: float = 0.0,
    most_bytes: float = inf,
) -> SearchResult:
    """Looks for the assignment of least `evaluate` within the budget.

    Args:
        problem: the variables, and latency and estimated loss as sums of tables.
        budget_ns: bound on the latency of everything that is evaluated.
        evaluate: measured loss of an assignment, lower is better.
        strategy: a name in `STRATEGIES`.
        evaluations: most evaluations, those of earlier calls with this storage included.
        seed: of everything random; the same call gives the same search.
        storage: SQLite file of the trials; None keeps them in memory.
        progress: called with (done, evaluations, least loss) after every evaluation.
        seconds: no evaluation starts later than this; at least one always does.
        warm: multipliers that did well in a similar search; strategies that weigh start there.
        enough: the search ends once the loss is no higher than this.
        most_bytes: bound on the size of everything that is evaluated.

    Raises:
        UsageError: there is no such strategy, or nothing is to be evaluated.
        InfeasibleError: nothing meets the budget.
        StoreError: the storage cannot be opened.
    """
    if strategy not in STRATEGIES:
        raise unknown("search strategy", strategy, STRATEGIES)
    if evaluations < 1:
        raise UsageError(f"{evaluations} evaluations are too few: at least one is needed")
    deadline = inf if seconds is None else time.monotonic() + seconds
    task = Task(problem, Decoder(problem), budget_ns, seed, most_bytes, tuple(warm), evaluations)
    proposer = STRATEGIES[strategy].create(task)
    trials = _Trials(task, strategy, storage)
    while (proposal := _next(trials, proposer, deadline, enough)) is not None:
        trials.add(proposal, evaluate)
        if progress:
            progress(len(trials.history), evaluations, trials.least)
    return _result(trials.history)


def _next(trials: "_Trials", proposer: Proposer, deadline: float, enough: float) -> Proposal | None:
    """What to evaluate next; a search that ends on the way to the budget ends with the knapsack."""
    task, done = trials.task, len(trials.history)
    late = done > 0 and (time.monotonic() > deadline or trials.least <= enough)
    found = None if late or done >= task.evaluations else proposer.propose(trials.history)
    ends_without = found is None or (found.step and done == task.evaluations - 1)
    if ends_without and not trials.has_answer:
        return Proposal(task.decode().assignment)
    return found


def _result(history: list[Evaluated]) -> SearchResult:
    answers = [e for e in history if not e.step]
    best = min(answers, key=lambda e: e.loss)
    losses = (inf if e.step else e.loss for e in history)
    return SearchResult(best, tuple(history), tuple(accumulate(losses, min)))


class _Trials:
    """The evaluations of one search in order, backed by an Optuna study."""

    def __init__(self, task: Task, strategy: str, storage: Path | None) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.task = task
        self._of_loss = task.problem.digest(of_latency=False)
        backing = _open(storage)
        name = f"{strategy} {task.problem.digest()} {task.budget_ns!r} {task.seed}"
        name += f" {task.most_bytes!r}" if task.most_bytes < inf else ""
        self._known = _known_losses(backing, self._of_loss)
        self._study = optuna.create_study(storage=backing, study_name=name, load_if_exists=True)
        self._study.set_user_attr("losses", self._of_loss)
        self.history: list[Evaluated] = []
        for trial in self._study.get_trials(deepcopy=False):
            if trial.state == optuna.trial.TrialState.COMPLETE:
                self.history.append(_read(trial))
            elif trial.state == optuna.trial.TrialState.RUNNING:  # of a process that was killed
                self._study.tell(trial.number, state=optuna.trial.TrialState.FAIL)

    @property
    def least(self) -> float:
        """The least loss so far of what meets the bounds."""
        return min((e.loss for e in self.history if not e.step), default=inf)

    @property
    def has_answer(self) -> bool:
        """Whether anything that meets the bounds was evaluated, whatever its loss."""
        return not all(e.step for e in self.history)

    def add(self, proposal: Proposal, evaluate: Evaluate) -> None:
        """Evaluates a proposal, unless its loss is known, and records it."""
        latency = self.task.problem.latency_ns(proposal.assignment)
        if latency > self.task.budget_ns and not proposal.step:
            raise HwpruneError(f"a proposal of {latency:.0f} ns is over the budget")
        text = _text(proposal.assignment)
        trial = self._study.ask()
        if text not in self._known:
            measured = float(evaluate(proposal.assignment))
            self._known[text] = measured if isfinite(measured) else inf
        loss = self._known[text]
        trial.set_user_attr("assignment", text)
        trial.set_user_attr("multipliers", json.dumps(dict(proposal.multipliers)))
        trial.set_user_attr("latency_ns", latency)
        trial.set_user_attr("loss", loss if isfinite(loss) else None)
        trial.set_user_attr("step", proposal.step)
        self._study.tell(trial, loss if isfinite(loss) else inf)
        self.history.append(
            Evaluated(proposal.assignment, loss, latency, dict(proposal.multipliers), proposal.step)
        )


def _open(storage: Path | None) -> "optuna.storages.BaseStorage":
    import optuna

    if storage is None:
        return optuna.storages.InMemoryStorage()
    from sqlalchemy.exc import SQLAlchemyError

    try:
        storage.parent.mkdir(parents=True, exist_ok=True)
        return optuna.storages.RDBStorage(f"sqlite:///{storage}")
    except (OSError, SQLAlchemyError, optuna.exceptions.OptunaError, RuntimeError) as error:
        raise StoreError(
            f"the trials in {storage} cannot be opened: {error}", "move the file away to start anew"
        ) from error


def _known_losses(backing: "optuna.storages.BaseStorage", of_loss: str) -> dict[str, float]:
    """Losses evaluated by any search over the same variables and estimates in this storage.

    A loss does not depend on the latency tables or the budget.
    """
    found: dict[str, float] = {}
    for study in backing.get_all_studies():
        if study.user_attrs.get("losses") == of_loss:
            for trial in backing.get_all_trials(study._study_id, deepcopy=False):
                if trial.state.name == "COMPLETE":
                    found[trial.user_attrs["assignment"]] = _loss(trial)
    return found


def _read(trial: "optuna.trial.FrozenTrial") -> Evaluated:
    attrs: Mapping[str, str] = trial.user_attrs
    return Evaluated(
        json.loads(attrs["assignment"]),
        _loss(trial),
        float(attrs["latency_ns"]),
        json.loads(attrs["multipliers"]),
        bool(trial.user_attrs.get("step", False)),
    )


def _loss(trial: "optuna.trial.FrozenTrial") -> float:
    loss = trial.user_attrs["loss"]
    return inf if loss is None else float(loss)


def _text(assignment: Assignment) -> str:
    return json.dumps(dict(assignment))
