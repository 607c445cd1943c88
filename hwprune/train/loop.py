"""One training loop: distillation from the original network, the best checkpoint wins."""

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from hwprune.frontend.dataset import DataSet
from hwprune.train.device import training_device
from hwprune.train.distributed import alike, first_of_all, mean_gradients, place
from hwprune.train.feed import Batch, Feed
from hwprune.train.hooks import Hook
from hwprune.train.objective import Objective
from hwprune.train.optimizers import (
    Optimizers,
    effective_rate,
    optimizer_of,
    peak_rate,
    share_of_rate,
)
from hwprune.train.recipe import Recipe
from hwprune.train.snapshots import Snapshots

Progress = Callable[[int, int, str], None]

_SECONDS = 60.0  # between two snapshots
_TRIED = 6  # steps that a training by the clock is planned by


def fit(
    student: nn.Module,
    teacher: nn.Module,
    data: DataSet,
    recipe: Recipe,
    seed: int,
    progress: Progress | None = None,
    optimizer: Optimizers | None = None,
    hooks: Sequence[Hook] = (),
    snapshots: Snapshots | None = None,
) -> float:
    """Trains the student in place and leaves the weights that did best on held-out data.

    The weights it came with are among the candidates, so it never ends worse than it began. A loss
    that is no number ends the training early. It runs on a GPU where there is one; both networks
    are on the CPU again afterwards.

    Args:
        student: What is trained.
        teacher: Whose answers it is to give.
        data: Training part; labels are used where there are any.
        recipe: How.
        seed: Same seed, same result on the same machine and thread number.
        progress: Called with steps done, steps in all, and what is going on.
        optimizer: Another one than the recipe's.
        hooks: What happens around the steps.
        snapshots: Where its state is kept, to go on with after the process was killed.

    Returns:
        Held-out loss of the weights that were kept.

    Raises UsageError for a recipe that no training could follow.
    """
    recipe.check(data.labelled)
    device = training_device()
    student.to(device)
    teacher.to(device)
    feed = Feed(data, seed, device, recipe.mixup, *place())
    training = _Training(student, Objective(student, teacher, recipe, feed), hooks)
    try:
        return training.run(
            optimizer or optimizer_of(recipe), progress or (lambda *_: None), snapshots
        )
    finally:
        student.cpu()
        teacher.cpu()


class _Training:
    """Where a training stands."""

    def __init__(self, student: nn.Module, objective: Objective, hooks: Sequence[Hook]) -> None:
        self.student, self.objective, self.hooks = student, objective, hooks
        self.recipe, self.feed = objective.recipe, objective.feed
        self.mean = _running_mean(student, self.recipe.ema) if self.recipe.ema else None
        self.best, self.kept = math.inf, dict[str, Any]()
        self.step, self.total, self.seconds = 0, 0, 0.0
        self.order = torch.zeros(0, dtype=torch.long)

    def run(self, optimizers: Optimizers, progress: Progress, snapshots: Snapshots | None) -> float:
        optimizer = optimizers(self.student, peak_rate(self.recipe, self.feed.batch))
        peaks = [group["lr"] for group in optimizer.param_groups]
        self._begin(optimizer, None if snapshots is None else snapshots.take())
        written = time.monotonic()
        for batch in self._batches():
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * share_of_rate(self.recipe, self.share)
            loss = self._step(batch, optimizer)
            if not math.isfinite(loss):
                return self._end()
            self._progress(loss, progress)
            self._after_step()
            if snapshots is not None and self._is_due(written):
                snapshots.keep(self._state(optimizer))
                written = time.monotonic()
        if self.step % self.feed.steps:
            self._judge()
        if snapshots is not None and place()[0] == 0:
            snapshots.keep(self._state(optimizer))
        return self._end()

    @property
    def share(self) -> float:
        """Of the training that is behind it, by steps or by the clock."""
        if self.recipe.minutes is None:
            return min(1.0, (self.step + 0.5) / max(1, self.total))
        return min(1.0, first_of_all(self.seconds) / (60 * self.recipe.minutes))

    def _begin(self, optimizer: torch.optim.Optimizer, state: dict[str, Any] | None) -> None:
        self.total = self._steps() if state is None else state["total"]
        for hook in self.hooks:
            hook.start(self.total, self.feed.steps, effective_rate(optimizer))
        if state is not None:
            self._resume(optimizer, state)
            return
        alike(self.student)
        self._judge()

    def _steps(self) -> int:
        """Of the whole training."""
        if self.recipe.minutes is None:
            return round(self.recipe.epochs * self.feed.steps)
        affordable = 60 * self.recipe.minutes / self._seconds_of_a_step()
        return max(1, int(first_of_all(affordable)))

    def _seconds_of_a_step(self) -> float:
        """How long a step takes here, tried on a copy and forgotten."""
        student, feed = copy.deepcopy(self.student), copy.copy(self.feed)
        feed.generator = torch.Generator().manual_seed(0)
        objective = Objective(student, self.objective.teacher, self.recipe, feed)
        trial = _Training(student, objective, ())
        optimizer, times = torch.optim.SGD(student.parameters(), 0.0), []
        for batch, _ in zip(feed.batches(feed.order(), 0), range(_TRIED), strict=False):
            start = time.perf_counter()
            trial._step(batch, optimizer)
            times.append(time.perf_counter() - start)
        return sorted(times)[len(times) // 2]  # the first ones warm up

    def _batches(self) -> Iterator[Batch]:
        """From where it stands to the end of the training, epoch by epoch."""
        start = time.perf_counter() - self.seconds
        while not self._is_over():
            inside = self.step % self.feed.steps
            if not inside:
                self.order = self.feed.order()
            for batch in self.feed.batches(self.order, inside):
                yield batch
                self.seconds = time.perf_counter() - start
                if self._is_over():
                    return

    def _is_over(self) -> bool:
        if any(hook.done for hook in self.hooks):
            return True
        return self.share >= 1 if self.recipe.minutes else self.step >= self.total

    def _step(self, batch: Batch, optimizer: torch.optim.Optimizer) -> float:
        self.student.train()
        loss = self.objective.training(batch)
        for hook in self.hooks:
            if (extra := hook.loss()) is not None:
                loss = loss + extra
        self.student.zero_grad()  # of parameters, too, that hooks move and the optimiser does not
        loss.backward()  # type: ignore[no-untyped-call]
        mean_gradients(self.student)
        norm = nn.utils.clip_grad_norm_(self.student.parameters(), self.recipe.clip)
        if not bool(norm.isfinite()):
            return math.nan
        optimizer.step()
        for hook in self.hooks:
            hook.after_step(effective_rate(optimizer))
        if self.mean is not None:
            self.mean.update_parameters(self.student)
        self.step += 1
        return loss.item()

    def _after_step(self) -> None:
        if self.step % self.feed.steps == 0:
            alike(self.student)
            self._judge()

    def _judge(self) -> None:
        """Keeps the weights of now, if they are the best (or the last ones are wanted)."""
        judged = self.student if self.mean is None else self.mean.module
        found = self.objective.held_out(judged.eval())
        if found < self.best or (math.isfinite(found) and not self.recipe.keeps_best):
            self.best, self.kept = found, copy.deepcopy(judged.state_dict())

    def _end(self) -> float:
        if self.kept:
            self.student.load_state_dict(self.kept)
        self.student.eval()
        return self.best

    def _progress(self, loss: float, progress: Progress) -> None:
        done, total = self._done()
        for hook in self.hooks:
            hook.progressed(done, total)
        progress(done, total, self._told(loss))

    def _done(self) -> tuple[int, int]:
        """Steps that were taken, and all there are going to be, as it looks now."""
        by_clock = self.recipe.minutes is not None and self.share > 0
        return self.step, round(self.step / self.share) if by_clock else self.total

    def _told(self, loss: float) -> str:
        epoch = (self.step - 1) // self.feed.steps + 1
        told = f"epoch {epoch}, loss {loss:.4f}, held out {self.best:.4f}"
        return ", ".join([told, *(hook.told for hook in self.hooks if hook.told)])

    def _is_due(self, written: float) -> bool:
        """Whether this process should write down where the training stands."""
        late = time.monotonic() - written > _SECONDS
        return place()[0] == 0 and (late or self.step % self.feed.steps == 0)

    def _state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        return {
            "student": self.student.state_dict(),
            "optimizer": optimizer.state_dict(),
            "mean": None if self.mean is None else self.mean.state_dict(),
            "hooks": [dict(hook.state()) for hook in self.hooks],
            "best": self.best,
            "kept": self.kept,
            "step": self.step,
            "total": self.total,
            "seconds": self.seconds,
            "order": self.order,
            "drawn": [self.feed.generator.get_state(), torch.get_rng_state()],
        }

    def _resume(self, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
        self.student.load_state_dict(state["student"])
        optimizer.load_state_dict(state["optimizer"])
        if self.mean is not None:
            self.mean.load_state_dict(state["mean"])
        for hook, own in zip(self.hooks, state["hooks"], strict=True):
            hook.load(own)
        self.best, self.kept, self.order = state["best"], state["kept"], state["order"]
        self.step, self.seconds = state["step"], state["seconds"]
        for generator, drawn in zip(
            (self.feed.generator, torch.default_generator), state["drawn"], strict=True
        ):
            generator.set_state(drawn)


def _running_mean(student: nn.Module, decay: float) -> AveragedModel:
    average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return AveragedModel(student, multi_avg_fn=average, use_buffers=True)
