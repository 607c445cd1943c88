"""How important each channel is: the L1 norm of the filters that make it, or a given order."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import onnx_graphsurgeon as gs
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from hwprune.graph.channels import Coupling
from hwprune.train.channels import channels_of


class Importance(Protocol):
    """Scores of the channels of some groups; `widths` are those of the groups."""

    widths: Tensor

    def __call__(self) -> Tensor:
        """`groups x channels`, positive, 0 where a group has no such channel; on the CPU."""
        ...


class Ranked:
    """Channels in a fixed order: their logarithms stand at equal distances."""

    def __init__(self, orders: Sequence[NDArray[np.int64]]) -> None:
        """Takes the channels of each group, the least important first."""
        self.widths = torch.tensor([len(order) for order in orders])
        self._scores = torch.zeros(len(orders), int(self.widths.max()), dtype=torch.float64)
        for row, order in zip(self._scores, orders, strict=True):
            row[torch.from_numpy(order)] = torch.linspace(0, 1, len(order)).double().exp()

    def __call__(self) -> Tensor:
        """See `Importance`."""
        return self._scores


class Norms:
    """L1 norms of a twin's filters as they are at the time of asking: see `Channels.norms`."""

    def __init__(
        self, twin: fx.GraphModule, graph: gs.Graph, coupling: Coupling, groups: Sequence[str]
    ) -> None:
        known = channels_of(twin, graph, map(coupling.group, groups))
        self._channels = [known.get(name) for name in groups]
        self.widths = torch.tensor([coupling.group(name).width for name in groups])

    def __call__(self) -> Tensor:
        """See `Importance`."""
        found = torch.zeros(len(self.widths), int(self.widths.max()), dtype=torch.float64)
        for row, channels in zip(found, self._channels, strict=True):
            if channels is not None:
                row[: channels.width] = channels.norms(1)
        return found
