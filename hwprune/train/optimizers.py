"""Optimisers by name, and how the learning rate moves."""

import math
from collections.abc import Callable

import torch
from torch import nn

from hwprune.train.recipe import Recipe

Optimizers = Callable[[nn.Module, float], torch.optim.Optimizer]  # for that peak rate

_MOMENTUM = 0.9
_STEPS = ((0.75, 0.01), (0.5, 0.1))  # shares of the training, and of the rate from there on


def optimizer_of(recipe: Recipe) -> Optimizers:
    """What makes the recipe's optimiser; weight decay is on weights only, not norms and biases."""

    def make(module: nn.Module, rate: float) -> torch.optim.Optimizer:
        trained = [p for p in module.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": recipe.weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]
        if recipe.optimizer == "adamw":
            return torch.optim.AdamW(groups, rate)
        return torch.optim.SGD(groups, rate, _MOMENTUM, nesterov=True)

    return make


def peak_rate(recipe: Recipe, batch: int) -> float:
    """Of the optimiser, for so many samples a step."""
    return recipe.rate * math.sqrt(batch / 128)


def steady_rate(recipe: Recipe, batch: int) -> float:
    """What a steady gradient moves weights by in a step at the peak: momentum adds up."""
    peak = peak_rate(recipe, batch)
    return peak if recipe.optimizer == "adamw" else peak / (1 - _MOMENTUM)


def share_of_rate(recipe: Recipe, share: float) -> float:
    """Of the peak rate, after a share of the training: rises in a line, then falls."""
    if share < recipe.warmup:
        return share / recipe.warmup
    if recipe.curve == "constant":
        return 1.0
    if recipe.curve == "step":
        return next((factor for start, factor in _STEPS if share >= start), 1.0)
    return 0.5 * (1 + math.cos(math.pi * (share - recipe.warmup) / max(1e-9, 1 - recipe.warmup)))


def effective_rate(optimizer: torch.optim.Optimizer) -> float:
    """What a steady gradient moves weights by in the next step."""
    group = optimizer.param_groups[0]
    return float(group["lr"]) / (1 - float(group.get("momentum", 0.0)))
