"""One training loop: distillation from the original network, the best checkpoint wins."""

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from hwprune.frontend.dataset import DataSet, balanced_order
from hwprune.network.run import Inputs, inputs_of
from hwprune.train.augment import flip_and_crop, suits
from hwprune.train.loss import Outputs, as_tuple, distillation, in_logits

Progress = Callable[[int, int, str], None]
Optimizers = Callable[[nn.Module, float], torch.optim.Optimizer]  # for that peak rate
_Index = NDArray[np.int64]

_BATCH_PIXELS = 64 * 64 * 64  # input pixels in one step: bounds memory on large images
_VALIDATION = 512  # most samples held out to choose the checkpoint
_LEAST_STEPS = 32  # an epoch on little data takes smaller steps, not fewer
_CACHED = 1 << 24  # most values of teacher outputs that are kept
_MOMENTUM, _WEIGHT_DECAY = 0.9, 1e-4


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train.

    Attributes:
        epochs: passes over the data.
        rate: peak learning rate for 128 samples a step; it follows the square root of that number.
        temperature: of the distillation.
        label_weight: share of cross-entropy with the labels, where there are any.
        half: compute in bfloat16 where the CPU has matrix units for it.
    """

    epochs: int
    rate: float
    temperature: float = 4.0
    label_weight: float = 0.1
    warmup: float = 0.1
    clip: float = 5.0
    half: bool = True


def batch_size(shape: tuple[int, ...]) -> int:
    """Samples a step for inputs of that shape (without batch): 128, fewer for large images."""
    pixels = math.prod(shape[1:]) if len(shape) == 3 else 1
    return max(8, min(128, _BATCH_PIXELS // pixels))


def sgd(module: nn.Module, rate: float) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum; weight decay on weights only, not on norms and biases."""
    trained = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": _WEIGHT_DECAY},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, rate, _MOMENTUM, nesterov=True)


def fit(
    student: nn.Module,
    teacher: nn.Module,
    data: DataSet,
    recipe: Recipe,
    seed: int,
    progress: Progress | None = None,
    optimizer: Optimizers = sgd,
) -> float:
    """Trains the student in place and leaves the weights that did best on held-out data.

    The weights it came with are among the candidates, so it never ends worse than it began. A loss
    that is no number ends the training early.

    Returns:
        Held-out loss of the weights that were kept.
    """
    training = _Training(student, teacher, data, recipe, seed)
    return training.run(optimizer, progress or (lambda *_: None))


class _Training:
    def __init__(
        self, student: nn.Module, teacher: nn.Module, data: DataSet, recipe: Recipe, seed: int
    ) -> None:
        self.student, self.teacher, self.data, self.recipe = student, teacher, data, recipe
        self.generator = torch.Generator().manual_seed(seed)
        order = balanced_order(data, seed)
        held_out = min(_VALIDATION, len(order) // 10)
        self.validation, self.training = order[:held_out], order[held_out:]
        sample = torch.from_numpy(data.batch(slice(0, 1)))
        self.augmented = suits(sample) and not data.more
        fitting = batch_size(tuple(sample.shape[1:]))
        self.batch = min(fitting, max(8, len(self.training) // _LEAST_STEPS), len(self.training))
        self.steps = len(self.training) // self.batch
        self.known: dict[int, Outputs] = {}

    def run(self, optimizers: Optimizers, progress: Progress) -> float:
        best, kept = self._validate(), copy.deepcopy(self.student.state_dict())
        total = self.recipe.epochs * self.steps
        optimizer = optimizers(self.student, self.recipe.rate * math.sqrt(self.batch / 128))
        warmup = max(1, round(total * self.recipe.warmup))
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: _warm_cosine(step, warmup, total)
        )
        for epoch in range(self.recipe.epochs):
            for step, index in enumerate(self._batches(), epoch * self.steps):
                loss = self._step(index, optimizer)
                if not math.isfinite(loss):
                    return self._keep(kept, best)
                schedule.step()
                progress(
                    step + 1, total, f"epoch {epoch + 1}, loss {loss:.4f}, held out {best:.4f}"
                )
            found = self._validate()
            if found < best:
                best, kept = found, copy.deepcopy(self.student.state_dict())
        return self._keep(kept, best)

    def _keep(self, state: dict[str, Any], loss: float) -> float:
        self.student.load_state_dict(state)
        self.student.eval()
        return loss

    def _step(self, index: _Index, optimizer: torch.optim.Optimizer) -> float:
        self.student.train()
        x = self._inputs(index, augment=self.augmented)
        target = self._target(index, x, self.recipe.half)
        with _autocast(self.recipe.half):
            out = as_tuple(self.student(*x))
        loss = self._loss(out, target, index, self.recipe.temperature)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.student.parameters(), self.recipe.clip)
        if not bool(norm.isfinite()):
            return math.nan
        optimizer.step()
        return loss.item()

    def _loss(self, out: Outputs, target: Outputs, index: _Index, temperature: float) -> Tensor:
        out, target = in_logits(out, target)
        loss = distillation(out, target, temperature)
        weight = self.recipe.label_weight
        if self.data.y is None or weight == 0 or len(out) > 1 or out[0].ndim != 2:
            return loss
        labels = torch.from_numpy(self.data.y[index])
        return (1 - weight) * loss + weight * F.cross_entropy(out[0], labels)

    @torch.no_grad()
    def _validate(self) -> float:
        """Loss on held-out samples, at temperature 1."""
        self.student.eval()
        losses = []
        for index in _chunks(self.validation, self.batch):
            x = self._inputs(index, augment=False)
            out, target = as_tuple(self.student(*x)), self._target(index, x, half=False)
            losses.append(float(self._loss(out, target, index, 1.0)) * len(index))
        return sum(losses) / max(1, len(self.validation))

    def _batches(self) -> Iterator[_Index]:
        order = torch.randperm(len(self.training), generator=self.generator).numpy()
        shuffled = self.training[order][: self.steps * self.batch]
        yield from _chunks(shuffled, self.batch)

    def _inputs(self, index: _Index, augment: bool) -> Inputs:
        x = tuple(map(torch.from_numpy, self.data.inputs(index)))
        return inputs_of(flip_and_crop(x[0], self.generator) if augment else x)

    @torch.no_grad()
    def _target(self, index: _Index, x: Inputs, half: bool) -> Outputs:
        """The teacher's outputs; remembered where samples come back unchanged."""
        if not self.augmented and all(int(i) in self.known for i in index):
            rows = [self.known[int(i)] for i in index]
            return tuple(torch.stack(column) for column in zip(*rows, strict=True))
        with _autocast(half):
            out = tuple(o.float() for o in as_tuple(self.teacher(*x)))
        if not self.augmented and len(self.known) * sum(o[0].numel() for o in out) < _CACHED:
            self.known.update({int(i): tuple(o[k] for o in out) for k, i in enumerate(index)})
        return out


def _warm_cosine(step: int, warmup: int, total: int) -> float:
    """Share of the peak rate: rises in a line, then falls as a half cosine to zero."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def _autocast(wanted: bool) -> AbstractContextManager[object]:
    """bfloat16 where it is faster: on matrix units."""
    return torch.autocast("cpu", torch.bfloat16, enabled=wanted and _has_matrix_units())


def _has_matrix_units() -> bool:
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("amx_bf16", False))


def _chunks(index: _Index, size: int) -> list[_Index]:
    return [index[i : i + size] for i in range(0, len(index), size)]
