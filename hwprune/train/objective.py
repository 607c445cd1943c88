"""What a training minimises, and what its checkpoints are judged by."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from hwprune.train.device import autocast
from hwprune.train.features import Features
from hwprune.train.feed import Batch, Feed
from hwprune.train.loss import Outputs, as_tuple, distillation, in_logits
from hwprune.train.recipe import Recipe


class Objective:
    """The distance of a student from its teacher, and from labels where there are any."""

    def __init__(self, student: nn.Module, teacher: nn.Module, recipe: Recipe, feed: Feed) -> None:
        self.student, self.teacher, self.recipe, self.feed = student, teacher, recipe, feed
        self.features: Features | None = None
        if recipe.feature_weight:
            sample = next(feed.held_out(), None) or next(feed.batches(feed.order(), 0))
            twins = cast("fx.GraphModule", student), cast("fx.GraphModule", teacher)
            self.features = Features(*twins, sample.x)

    def training(self, batch: Batch) -> Tensor:
        """Of the student, on the samples of one step."""
        recipe = self.recipe
        with autocast(self.feed.device, recipe.half):
            out = as_tuple((self.features or self).student(*batch.x))
        if self._learns_labels_alone(batch, out):
            return self._cross_entropy(out[0].float(), batch, recipe.label_smoothing)
        teacher = (self.features or self).teacher
        target = self.feed.answers(teacher, batch, recipe.half)
        if self.features is None:
            return self._distance(out, target, batch, recipe.temperature, recipe.label_smoothing)
        (out, mine), (target, theirs) = self.features.parts(out), self.features.parts(target)
        loss = self._distance(out, target, batch, recipe.temperature, recipe.label_smoothing)
        return loss + recipe.feature_weight * self.features.distance(mine, theirs)

    @torch.no_grad()
    def held_out(self, network: nn.Module) -> float:
        """Of any network, on the samples that nobody trains on, at temperature 1."""
        total, count = 0.0, 0
        for batch in self.feed.held_out():
            out = as_tuple(network(*batch.x))
            if self._learns_labels_alone(batch, out):
                loss = self._cross_entropy(out[0].float(), batch)
            else:
                target = self.feed.answers(self.teacher, batch, half=False)
                loss = self._distance(out, target, batch, 1.0)
            total, count = total + float(loss) * len(batch.index), count + len(batch.index)
        return total / max(1, count)

    def _learns_labels_alone(self, batch: Batch, out: Outputs) -> bool:
        return self.recipe.label_weight == 1 and batch.y is not None and out[0].ndim == 2

    def _distance(
        self, out: Outputs, target: Outputs, batch: Batch, temperature: float, smoothing: float = 0
    ) -> Tensor:
        out, target = in_logits(out, target)
        loss, weight = distillation(out, target, temperature), self.recipe.label_weight
        if batch.y is None or weight == 0 or len(out) > 1 or out[0].ndim != 2:
            return loss
        return (1 - weight) * loss + weight * self._cross_entropy(out[0], batch, smoothing)

    def _cross_entropy(self, logits: Tensor, batch: Batch, smoothing: float = 0.0) -> Tensor:
        loss = F.cross_entropy(logits, batch.y, label_smoothing=smoothing)  # type: ignore[arg-type]
        if batch.mixed is None:
            return loss
        other = F.cross_entropy(logits, batch.mixed, label_smoothing=smoothing)
        return batch.weight * loss + (1 - batch.weight) * other
