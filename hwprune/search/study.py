"""One search: a strategy proposes, the caller evaluates, Optuna keeps the trials.

Every proposal meets the budget before it is evaluated. With a storage the trials survive the
process: the same call again continues where it stopped, nothing is evaluated twice, and other
processes may `join`.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, count
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwprune.errors import StoreError, UsageError
from hwprune.registry import unknown
from hwprune.search.catalogue import STRATEGIES
from hwprune.search.decode import Decoder
from hwprune.search.documents import task_from_json, task_to_json
from hwprune.search.problem import Problem
from hwprune.search.storage import open_storage, shown
from hwprune.search.strategy import Evaluated, Proposal, Proposer, Task
from hwprune.search.trials import Evaluate, Trials

if TYPE_CHECKING:
    import optuna

Progress = Callable[[int, int, Evaluated | None], None]  # done, of so many, the best so far

_POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search found; `best_so_far` is the least loss after each evaluation.

    `late` says that the clock ended it.
    """

    best: Evaluated
    evaluated: tuple[Evaluated, ...]
    best_so_far: tuple[float, ...]
    late: bool = False


@dataclass(frozen=True, slots=True)
class Shared:
    """How others may find a search, and the JSON-able `context` that they need to evaluate."""

    name: str = "search"
    context: Any = None


def search(
    problem: Problem,
    budget_ns: float,
    evaluate: Evaluate,
    strategy: str = "bo",
    evaluations: int = 100,
    seed: int = 0,
    storage: Path | str | None = None,
    progress: Progress | None = None,
    seconds: float | None = None,
    warm: Sequence[Mapping[str, float]] = (),
    enough: float = 0.0,
    shared: Shared | None = None,
) -> SearchResult:
    """Looks for the assignment of least `evaluate` within the budget.

    Args:
        problem: the variables, and latency and estimated loss as sums of tables.
        budget_ns: bound on the latency of everything that is evaluated.
        evaluate: measured loss of an assignment, lower is better.
        strategy: a name in `STRATEGIES`.
        evaluations: most evaluations, those of earlier calls with this storage included.
        seed: of everything random; the same call gives the same search, unless others join.
        storage: SQLite file of the trials, or a database's address; None keeps them in memory.
        progress: called with (done, evaluations, the best so far) after every evaluation.
        seconds: no evaluation starts later than this; at least one always does.
        warm: multipliers that did well in a similar search; strategies that weigh start there.
        enough: the search ends once the loss is no higher than this.
        shared: lets other processes join.

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
    task = Task(problem, Decoder(problem), budget_ns, seed, tuple(warm), evaluations)
    proposer = STRATEGIES[strategy](task)
    study = _study(open_storage(storage), task, strategy, enough, shared or Shared())
    trials = Trials(study, task)
    if study.user_attrs.get("closed") == evaluations and trials.has_answer:
        late = bool(study.user_attrs.get("late"))
        return _result(trials.done, late)  # whatever ended it then ends it now
    study.set_user_attr("closed", None)
    while _step(trials, proposer, evaluate, deadline, enough, progress) or trials.pending:
        if trials.pending:
            time.sleep(_POLL_SECONDS)
            trials.sync()
    late = len(trials.done) < evaluations and trials.least > enough and time.monotonic() > deadline
    study.set_user_attr("late", late)
    study.set_user_attr("closed", evaluations)
    return _result(trials.done, late)


def join(
    storage: Path | str,
    name: str | None,
    evaluator: Callable[[Any], Evaluate],
    progress: Progress | None = None,
    wait: float = 60.0,
) -> int:
    """Takes part in the searches of that name until none is open for `wait` seconds.

    Args:
        storage: as for `search`.
        name: as in `Shared`; None: whatever is searched for there.
        evaluator: gives the objective for a search's context.
        progress: called with (done by all, evaluations, the best so far) after every evaluation.
        wait: seconds; a compile searches several times, and does other things between.

    Returns:
        How many evaluations were made here.

    Raises:
        StoreError: the storage cannot be opened, or never held a search of that name.
    """
    backing, made, seen = open_storage(storage), 0, False
    until = time.monotonic() + wait
    while time.monotonic() < until:
        for study in _open_studies(backing, name):
            seen = True
            task, strategy, enough = task_from_json(study.user_attrs["task"])
            proposer, trials = STRATEGIES[strategy](task), Trials(study, task)
            evaluate = evaluator(study.user_attrs["context"])
            while _step(trials, proposer, evaluate, inf, enough, progress):
                made += 1
                until = time.monotonic() + wait
        time.sleep(_POLL_SECONDS)
    if not seen and not any(_is_of(s.study_name, name) for s in backing.get_all_studies()):
        raise StoreError(
            f"{shown(storage)} holds no search named {name or 'anything'!r}",
            "start one: hwprune compile --storage ... --study NAME",
        )
    return made


def _step(
    trials: Trials,
    proposer: Proposer,
    evaluate: Evaluate,
    deadline: float,
    enough: float,
    progress: Progress | None,
) -> bool:
    """One evaluation that nobody else makes; False where there is none left to make."""
    while (proposal := _next(trials, proposer, deadline, enough)) is not None:
        made = trials.evaluate(proposal, evaluate)
        trials.sync()
        if made:
            if progress:
                progress(len(trials.done), trials.task.evaluations, trials.best)
            return True
    return False


def _next(trials: Trials, proposer: Proposer, deadline: float, enough: float) -> Proposal | None:
    """What to evaluate next; a search that ends on the way to the budget ends with the knapsack."""
    task, begun = trials.task, len(trials.history)
    late = begun > 0 and (time.monotonic() > deadline or trials.least <= enough)
    found = None if late or begun >= task.evaluations else proposer.propose(trials.history)
    ends_without = found is None or (found.step and begun == task.evaluations - 1)
    if ends_without and not trials.has_answer:
        return Proposal(task.decode().assignment)
    return found


def _result(history: list[Evaluated], late: bool) -> SearchResult:
    answers = [e for e in history if not e.step]
    best = min(answers, key=lambda e: e.loss)
    losses = (inf if e.step else e.loss for e in history)
    return SearchResult(best, tuple(history), tuple(accumulate(losses, min)), late)


def _study(
    backing: "optuna.storages.BaseStorage",
    task: Task,
    strategy: str,
    enough: float,
    shared: Shared,
) -> "optuna.Study":
    """The study of this very search, new or as it was left."""
    import optuna

    key = f"{strategy} {task.problem.digest()} {task.budget_ns!r} {task.seed}"
    known = {s.study_name: s.user_attrs.get("key") for s in backing.get_all_studies()}
    fresh = (name for i in count(1) if (name := f"{shared.name}-{i}") not in known)
    name = next((n for n, k in known.items() if k == key), None) or next(fresh)
    study = optuna.create_study(storage=backing, study_name=name, load_if_exists=True)
    study.set_user_attr("key", key)
    study.set_user_attr("task", task_to_json(task, strategy, enough))
    study.set_user_attr("context", shared.context)
    return study


def _is_of(study_name: str, name: str | None) -> bool:
    return name is None or study_name.rpartition("-")[0] == name


def _open_studies(backing: "optuna.storages.BaseStorage", name: str | None) -> list["optuna.Study"]:
    """Those of a name that others may work on."""
    import optuna

    found = [
        s.study_name
        for s in backing.get_all_studies()
        if _is_of(s.study_name, name)
        and s.user_attrs.get("closed", 0) is None
        and "context" in s.user_attrs
    ]
    return [optuna.load_study(study_name=n, storage=backing) for n in found]
