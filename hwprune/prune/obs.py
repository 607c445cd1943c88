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

_STEPS = 128  # a wider group loses several channels a step


@dataclass(slots=True)
class Consumer:
    """A layer that reads the group.

    `weight` (outputs x columns) is scaled so that its squared error is a loss; `inverse` is the
    inverse of the columns' covariance; `blocks` (width x columns per channel) tells which columns
    belong to which channel. Both matrices change while channels leave.
    """

    weight: Tensor
    inverse: Tensor
    blocks: Tensor

    def costs(self) -> Tensor:
        """Loss added by each channel if it were next: tr(W_B [(H^-1)_BB]^-1 W_B')."""
        inner = self.inverse[self.blocks[:, :, None], self.blocks[:, None, :]]
        columns = self.weight.T[self.blocks]  # width x columns per channel x outputs
        return (columns * torch.linalg.solve(_regular(inner), columns)).sum((1, 2))

    def remove(self, channels: Tensor) -> float:
        """Takes channels out; returns the loss that the best compensation leaves."""
        gone = self.blocks[channels].flatten()
        inner = _regular(self.inverse[gone[:, None], gone[None, :]])
        columns = self.weight[:, gone]
        spread = torch.linalg.solve(inner, self.inverse[gone])
        added = float((columns.T * torch.linalg.solve(inner, columns.T)).sum())
        self.weight -= columns @ spread
        self.inverse -= self.inverse[:, gone] @ spread
        return added


def eliminate(consumers: Sequence[Consumer], width: int) -> tuple[NDArray[np.int64], list[float]]:
    """Removal order and the loss each removal adds; errors of several consumers add up."""
    step = -(-width // _STEPS)
    alive = torch.ones(width, dtype=torch.bool)
    order: list[int] = []
    added: list[float] = []
    while len(order) < width:
        costs = torch.stack([consumer.costs() for consumer in consumers]).sum(0)
        costs[~alive] = torch.inf
        count = min(step, width - len(order))
        chosen = costs.argsort(stable=True)[:count]
        loss = sum(consumer.remove(chosen) for consumer in consumers)
        alive[chosen] = False
        order += chosen.tolist()
        added += [max(loss, 0.0) / count] * count
    return np.array(order, np.int64), added


def _regular(blocks: Tensor) -> Tensor:
    """Blocks of channels that already left are zero: keep the solver calm."""
    tiny = 1e-10 * blocks.diagonal(dim1=-2, dim2=-1).mean(-1).abs() + 1e-30
    return blocks + tiny[..., None, None] * torch.eye(blocks.shape[-1], dtype=blocks.dtype)
