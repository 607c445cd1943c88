"""Structured optimal brain surgeon: channels leave one after another, the others compensate.

Hassibi and Stork 1993 (eq. 5) with blocks of columns in place of single weights, as in Frantar and
Alistarh 2022 (Optimal Brain Compression, section 4) and Kurtic et al. 2023 (ZipLM, eq. 2-4).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_STEPS = 64  # a wider group loses several channels a step


@dataclass(slots=True)
class Consumer:
    """A layer that reads the group: the part of it that belongs to the channels still there.

    `weight` (outputs x columns) is scaled so that its squared error is a loss; `inverse` is the
    inverse of the columns' covariance, restricted to these columns; every channel has `size`
    columns, side by side.
    """

    weight: Tensor
    inverse: Tensor
    size: int

    def costs(self) -> Tensor:
        """Loss added by each channel if it were next: tr(W_B [(H^-1)_BB]^-1 W_B')."""
        width = len(self.inverse) // self.size
        blocks = self.inverse.reshape(width, self.size, width, self.size)
        inner = blocks.diagonal(dim1=0, dim2=2).permute(2, 0, 1)
        columns = self.weight.T.reshape(width, self.size, -1)
        costs: Tensor = (columns * torch.linalg.solve(inner, columns)).sum((1, 2))
        return costs

    def remove(self, channels: Tensor) -> float:
        """Takes channels out; returns the loss that the best compensation leaves."""
        leaves = torch.zeros(len(self.inverse) // self.size, dtype=torch.bool)
        leaves[channels] = True
        gone = leaves.repeat_interleave(self.size)
        columns, across = self.weight[:, gone], self.inverse[gone][:, ~gone]
        both = torch.cat([columns.T, across], 1)
        solved = torch.linalg.solve(self.inverse[gone][:, gone], both)
        loss, spread = solved[:, : len(columns)], solved[:, len(columns) :]
        self.weight = self.weight[:, ~gone] - columns @ spread
        self.inverse = self.inverse[~gone][:, ~gone] - across.T @ spread
        return float((columns.T * loss).sum())


def eliminate(consumers: Sequence[Consumer], width: int) -> tuple[NDArray[np.int64], list[float]]:
    """Removal order and the loss each removal adds; errors of several consumers add up."""
    alive = torch.arange(width)
    order: list[int] = []
    added: list[float] = []
    while len(alive):
        costs = torch.stack([consumer.costs() for consumer in consumers]).sum(0)
        chosen = costs.argsort(stable=True)[: -(-width // _STEPS)]
        loss = sum(consumer.remove(chosen) for consumer in consumers)
        order += alive[chosen].tolist()
        added += [max(loss, 0.0) / len(chosen)] * len(chosen)
        stays = torch.ones(len(alive), dtype=torch.bool)
        stays[chosen] = False
        alive = alive[stays]
    return np.array(order, np.int64), added
