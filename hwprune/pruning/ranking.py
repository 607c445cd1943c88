"""What a criterion finds out about one group of channels."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from hwprune.graph.channels import Coupling
from hwprune.network.run import Data


@dataclass(frozen=True, slots=True)
class Ranking:
    """Removal order of one group's channels, least important first.

    `error[k]` estimates the loss when the first k of `order` are gone; error[0] = 0, never falling.
    """

    order: NDArray[np.int64]
    error: NDArray[np.float64]

    def kept(self, width: int) -> tuple[int, ...]:
        """The channels that go last, ascending: what stays of the group at that width."""
        return tuple(sorted(int(i) for i in self.order[len(self.order) - width :]))


Criterion = Callable[[gs.Graph, Coupling, Data, int], dict[str, Ranking]]


def alike(order: NDArray[np.int64]) -> Ranking:
    """That order, where nothing is known of what channels cost: each as much as any other."""
    return Ranking(order.astype(np.int64), np.arange(len(order) + 1) / len(order))


def ranked(scores: NDArray[np.float64]) -> Ranking:
    """Least score first; what several channels cost is the sum of what each does."""
    order = np.argsort(scores, kind="stable").astype(np.int64)
    return Ranking(order, np.concatenate([[0.0], np.cumsum(scores[order])]))
