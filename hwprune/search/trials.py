"""The evaluations of one search, kept in an Optuna study that several processes may work on.

A trial holds its assignment from the moment it is claimed. Whoever claims the same one later gives
it up, and what others are evaluating counts as evaluated, with the worst loss so far (a constant
liar, Ginsbourger et al. 2010). A worker that dies loses its own trial only: on the same machine
that is seen at once, from elsewhere once its heartbeat has stopped for a minute.
"""

import json
import os
import socket
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import inf, isfinite
from threading import Event, Thread
from typing import TYPE_CHECKING

from hwprune.errors import HwpruneError
from hwprune.search.problem import Assignment
from hwprune.search.storage import BEAT_SECONDS
from hwprune.search.strategy import Evaluated, Proposal, Task

if TYPE_CHECKING:
    import optuna

Evaluate = Callable[[Assignment], float]


class Trials:
    """What is known of one search; `sync` says what others have done meanwhile.

    Attributes:
        done: the finished evaluations, in the order they were begun.
        pending: those that others are at, with the loss they are given until they finish.
    """

    def __init__(self, study: "optuna.Study", task: Task) -> None:
        self.task, self.done, self.pending = task, list[Evaluated](), list[Evaluated]()
        self._study = study
        self._of_loss = task.problem.digest(of_latency=False)
        self._known = known_losses(study._storage, self._of_loss)
        study.set_user_attr("losses", self._of_loss)
        self.sync()

    @property
    def history(self) -> list[Evaluated]:
        """All of them, as strategies are told; those that others are at come last."""
        return [*self.done, *self.pending]

    @property
    def best(self) -> Evaluated | None:
        """The one of least loss so far that meets the bounds."""
        return min((e for e in self.done if not e.step), key=lambda e: e.loss, default=None)

    @property
    def least(self) -> float:
        """Its loss; infinite before there is one."""
        return inf if self.best is None else self.best.loss

    @property
    def has_answer(self) -> bool:
        """Whether anything that meets the bounds is or will be evaluated, whatever its loss."""
        return not all(e.step for e in self.history)

    def sync(self) -> None:
        """Reads what all processes have done, and gives trials of dead ones up."""
        self._bury()
        trials = self._study.get_trials(deepcopy=False)
        self.done = [_read(t, _loss(t)) for t in trials if t.state.name == "COMPLETE"]
        self._known |= {text_of(e.assignment): e.loss for e in self.done}
        worst = max((e.loss for e in self.done if isfinite(e.loss)), default=inf)
        self.pending = [_read(t, worst) for t in trials if _is_claimed(t)]

    def evaluate(self, proposal: Proposal, evaluate: Evaluate) -> bool:
        """Claims, evaluates (unless the loss is known) and records; False where others have it."""
        latency = self.task.problem.latency_ns(proposal.assignment)
        if latency > self.task.budget_ns and not proposal.step:
            raise HwpruneError(f"a proposal of {latency:.0f} ns is over the budget")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of heartbeats beside `optimize`: see `_alive`
            trial = self._study.ask()
        self._describe(trial, proposal, latency)
        if self._is_taken(trial.number, proposal):
            self._study.tell(trial, state=_failed())
            return False
        text = text_of(proposal.assignment)
        try:
            if text not in self._known:
                with self._alive(trial._trial_id):
                    self._known[text] = _sane(float(evaluate(proposal.assignment)))
        except BaseException:
            self._study.tell(trial, state=_failed())
            raise
        loss = self._known[text]
        trial.set_user_attr("loss", loss if isfinite(loss) else None)
        self._study.tell(trial, loss)
        return True

    def _describe(self, trial: "optuna.Trial", proposal: Proposal, latency: float) -> None:
        """The assignment comes last: a trial that has one is claimed."""
        trial.set_user_attr("worker", [socket.gethostname(), os.getpid()])
        trial.set_user_attr("multipliers", json.dumps(dict(proposal.multipliers)))
        trial.set_user_attr("latency_ns", latency)
        trial.set_user_attr("step", proposal.step)
        trial.set_user_attr("assignment", text_of(proposal.assignment))

    def _is_taken(self, number: int, proposal: Proposal) -> bool:
        """Whether others claimed it first, or all the evaluations there are."""
        trials = self._study.get_trials(deepcopy=False)
        before = [t for t in trials if t.number < number]
        counted = [t for t in before if t.state.name == "COMPLETE" or _is_claimed(t)]
        text = text_of(proposal.assignment)
        same = any(t.user_attrs.get("assignment") == text for t in counted)
        return same or len(counted) >= self.task.evaluations

    def _bury(self) -> None:
        """Fails the trials of processes that are no more."""
        import optuna

        for trial in self._study.get_trials(deepcopy=False, states=_running()):
            host, pid = trial.user_attrs.get("worker", ("", 0))
            if host == socket.gethostname() and not _lives(int(pid)):
                self._study.tell(trial.number, state=_failed())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # called experimental
            optuna.storages.fail_stale_trials(self._study)

    @contextmanager
    def _alive(self, trial_id: int) -> Iterator[None]:
        """Signs of life while the block runs, in a storage that others can see."""
        import optuna

        storage = self._study._storage
        if isinstance(storage, optuna.storages._CachedStorage):
            storage = storage._backend
        if not isinstance(storage, optuna.storages.RDBStorage):
            yield
            return
        ended = Event()

        def beat() -> None:
            while True:
                storage.record_heartbeat(trial_id)
                if ended.wait(BEAT_SECONDS):
                    return

        thread = Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def known_losses(backing: "optuna.storages.BaseStorage", of_loss: str) -> dict[str, float]:
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


def text_of(assignment: Assignment) -> str:
    """What assignments are told apart by in a storage."""
    return json.dumps(dict(assignment))


def _read(trial: "optuna.trial.FrozenTrial", loss: float) -> Evaluated:
    attrs: Mapping[str, str] = trial.user_attrs
    return Evaluated(
        json.loads(attrs["assignment"]),
        loss,
        float(attrs["latency_ns"]),
        json.loads(attrs["multipliers"]),
        bool(trial.user_attrs.get("step", False)),
    )


def _loss(trial: "optuna.trial.FrozenTrial") -> float:
    loss = trial.user_attrs["loss"]
    return inf if loss is None else float(loss)


def _sane(loss: float) -> float:
    return loss if isfinite(loss) else inf


def _is_claimed(trial: "optuna.trial.FrozenTrial") -> bool:
    return trial.state.name == "RUNNING" and "assignment" in trial.user_attrs


def _lives(pid: int) -> bool:
    """Whether a process of this machine is running, whoever it belongs to."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _failed() -> "optuna.trial.TrialState":
    import optuna

    return optuna.trial.TrialState.FAIL


def _running() -> tuple["optuna.trial.TrialState"]:
    import optuna

    return (optuna.trial.TrialState.RUNNING,)
