"""What a training sees: shuffled batches, varied a little, and what the teacher says to them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hwprune.frontend.dataset import DataSet, balanced_order
from hwprune.network.run import Inputs, inputs_of
from hwprune.train.augment import flip_and_crop, suits
from hwprune.train.device import autocast
from hwprune.train.loss import Outputs, as_tuple

Index = NDArray[np.int64]

_VALIDATION = 512  # most samples held out to choose the checkpoint
_LEAST_STEPS = 32  # an epoch on little data takes smaller steps, not fewer
_CACHED = 1 << 24  # most values of teacher outputs that are kept
_BATCH_PIXELS = 64 * 64 * 64  # input pixels in one step: bounds memory on large images


def batch_size(shape: tuple[int, ...]) -> int:
    """Samples a step for inputs of that shape (without batch): 128, fewer for large images."""
    pixels = int(np.prod(shape[1:])) if len(shape) == 3 else 1
    return max(8, min(128, _BATCH_PIXELS // pixels))


def batch_of(data: DataSet) -> int:
    """Samples in a step of a training on these data."""
    training = len(data) - held_out(len(data))
    fitting = batch_size(data.batch(slice(0, 1)).shape[1:])
    return min(fitting, max(8, training // _LEAST_STEPS), training)


def steps_of_an_epoch(data: DataSet) -> int:
    """How many steps one pass takes, without the samples that are held out."""
    return (len(data) - held_out(len(data))) // batch_of(data)


def held_out(count: int) -> int:
    """Of so many samples, those that choose the checkpoint."""
    return min(_VALIDATION, count // 10)


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples of one step; `mixed` with others of the batch, of which each has a share `weight`."""

    index: Index
    x: Inputs
    y: Tensor | None
    mixed: Tensor | None = None  # labels of what was mixed in
    weight: float = 1.0

    @property
    def is_plain(self) -> bool:
        """Whether the samples are as they were."""
        return self.mixed is None


class Feed:
    """Batches of a data set for one training on one device; `rank` of `world` gets its share."""

    def __init__(
        self, data: DataSet, seed: int, device: torch.device, mixup: float = 0.0,
        rank: int = 0, world: int = 1,
    ) -> None:  # fmt: skip
        self.data, self.device, self.mixup = data, device, mixup
        self.rank, self.world = rank, world
        self.generator = torch.Generator().manual_seed(seed)
        order = balanced_order(data, seed)
        count = held_out(len(order))
        self.validation, self.training = order[:count], order[count:]
        self.augmented = suits(torch.from_numpy(data.batch(slice(0, 1)))) and not data.more
        self.batch, self.steps = batch_of(data), steps_of_an_epoch(data)
        self.known: dict[int, Outputs] = {}

    def order(self) -> Tensor:
        """A new order of the samples, for one epoch."""
        return torch.randperm(len(self.training), generator=self.generator)

    def batches(self, order: Tensor, start: int) -> Iterator[Batch]:
        """The batches of an epoch from number `start` on."""
        shuffled = self.training[order.numpy()][: self.steps * self.batch]
        for index in chunks(shuffled, self.batch)[start:]:
            yield self._varied(index)

    def held_out(self) -> Iterator[Batch]:
        """The samples that are not trained on, as they are."""
        for index in chunks(self.validation, self.batch):
            yield Batch(index, self._inputs(index), self._labels(index))

    @torch.no_grad()
    def answers(self, teacher: nn.Module, batch: Batch, half: bool) -> Outputs:
        """The teacher's outputs; remembered where samples come back unchanged."""
        fixed = not self.augmented and batch.is_plain
        if fixed and all(int(i) in self.known for i in batch.index):
            rows = [self.known[int(i)] for i in batch.index]
            return tuple(torch.stack(column) for column in zip(*rows, strict=True))
        with autocast(self.device, half):
            out = tuple(o.float() for o in as_tuple(teacher(*batch.x)))
        if fixed and len(self.known) * sum(o[0].numel() for o in out) < _CACHED:
            self.known.update({int(i): tuple(o[k] for o in out) for k, i in enumerate(batch.index)})
        return out

    def _varied(self, index: Index) -> Batch:
        """Every process draws for the whole batch, so that all agree, and takes its own rows."""
        x, y = self._inputs(index, self.augmented), self._labels(index)
        batch = Batch(index, x, y) if not self.mixup else self._mixed(Batch(index, x, y))
        return batch if self.world == 1 else self._own(batch)

    def _mixed(self, batch: Batch) -> Batch:
        """Each sample with another one of the batch (Zhang et al. 2018)."""
        pair = torch.randperm(len(batch.index), generator=self.generator)
        weight = self._beta()
        x = tuple(weight * part + (1 - weight) * part[pair] for part in batch.x)
        other = None if batch.y is None else batch.y[pair.to(batch.y.device)]
        mixed = torch.zeros(0) if other is None else other
        return Batch(batch.index, x, batch.y, mixed, weight)

    def _beta(self) -> float:
        a = torch.full((2,), self.mixup, dtype=torch.float64)
        gamma = torch._standard_gamma(a, generator=self.generator)
        return float(gamma[0] / gamma.sum().clamp_min(1e-12))

    def _own(self, batch: Batch) -> Batch:
        rows = slice(self.rank, None, self.world)
        y = None if batch.y is None else batch.y[rows]
        mixed = None if batch.mixed is None else batch.mixed[rows]
        return Batch(batch.index[rows], tuple(x[rows] for x in batch.x), y, mixed, batch.weight)

    def _inputs(self, index: Index, augment: bool = False) -> Inputs:
        x = tuple(map(torch.from_numpy, self.data.inputs(index)))
        x = inputs_of(flip_and_crop(x[0], self.generator) if augment else x)
        return tuple(part.to(self.device, non_blocking=True) for part in x)

    def _labels(self, index: Index) -> Tensor | None:
        if self.data.y is None:
            return None
        return torch.from_numpy(self.data.y[index]).to(self.device, non_blocking=True)


def chunks(index: Index, size: int) -> list[Index]:
    """`index` in portions."""
    return [index[i : i + size] for i in range(0, len(index), size)]
