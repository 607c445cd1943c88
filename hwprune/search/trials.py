"""The evaluations of one search, kept in an Optuna study that several processes may work on.

A trial holds its assignment from the moment it is there. Whoever claims the same one later gives
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
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class _Claim:
    """A trial that is this process' own."""

    id: int
    number: int


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
        self.pending = [_read(t, worst) for t in trials if t.state.name == "RUNNING"]

    def evaluate(self, proposal: Proposal, evaluate: Evaluate) -> bool:
        """Claims, evaluates (unless the loss is known) and records; False where others have it."""
        latency = self.task.problem.latency_ns(proposal.assignment)
        if latency > self.task.budget_ns and not proposal.step:
            raise HwpruneError(f"a proposal of {latency:.0f} ns is over the budget")
        claim = self._claim(proposal, latency)
        if self._is_taken(claim.number, proposal):
            self._study.tell(claim.number, state=_failed())
            return False
        text = text_of(proposal.assignment)
        try:
            if text not in self._known:
                with self._alive(claim.id):
                    self._known[text] = _sane(float(evaluate(proposal.assignment)))
        except BaseException:
            self._study.tell(claim.number, state=_failed())
            raise
        loss = self._known[text]
        kept = loss if isfinite(loss) else None
        self._study._storage.set_trial_user_attr(claim.id, "loss", kept)
        self._study.tell(claim.number, loss)
        return True

    def _claim(self, proposal: Proposal, latency: float) -> "_Claim":
        """A running trial, made with its assignment in one transaction: of two claims the one with
        the lower number was there, whole, before the other was made.
        """
        import optuna

        attributes = {
            "worker": [socket.gethostname(), os.getpid()],
            "multipliers": json.dumps(dict(proposal.multipliers)),
            "latency_ns": latency,
            "step": proposal.step,
            "assignment": text_of(proposal.assignment),
        }
        (running,) = _running()
        made = optuna.trial.create_trial(state=running, user_attrs=attributes)
        storage = self._study._storage
        trial_id = storage.create_new_trial(self._study._study_id, template_trial=made)
        return _Claim(trial_id, storage.get_trial_number_from_id(trial_id))

    def _is_taken(self, number: int, proposal: Proposal) -> bool:
        """Whether others claimed it first, or all the evaluations there are."""
        trials = self._study.get_trials(deepcopy=False)
        before = [t for t in trials if t.number < number]
        counted = [t for t in before if t.state.name in ("COMPLETE", "RUNNING")]
        text = text_of(proposal.assignment)
        same = any(t.user_attrs["assignment"] == text for t in counted)
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
