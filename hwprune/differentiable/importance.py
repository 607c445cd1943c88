"""How important each channel is: the L1 norm of the filters that make it, or a given order."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import onnx_graphsurgeon as gs
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from hwprune.graph.channels import Coupling
from hwprune.graph.cost import output_axis, weight_input
from hwprune.network.twin import initializers
from hwprune.train.batchnorm import factors_behind


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
    """L1 norms of a twin's filters as they are at the time of asking.

    A filter counts as it would with the BatchNorm behind it folded in; layers that are added up
    (residual streams) count together.
    """

    def __init__(
        self, twin: fx.GraphModule, graph: gs.Graph, coupling: Coupling, groups: Sequence[str]
    ) -> None:
        self.twin = twin
        self.widths = torch.tensor([coupling.group(name).width for name in groups])
        nodes, paths = {node.name: node for node in graph.nodes}, _paths(twin)
        self._rows: list[tuple[int, str, int, Tensor]] = []  # row, path, axis, positions
        for row, group in enumerate(map(coupling.group, groups)):
            for node in (nodes[n] for n in group.producers):
                name, axis = node.inputs[weight_input(node) or 0].name, output_axis(node)
                for m in group.members:
                    if (m.tensor, m.axis) == (name, axis) and name in paths:
                        path, flipped = paths[name]
                        turned = len(node.inputs[weight_input(node) or 0].shape) - 1 - axis
                        at = torch.from_numpy(m.positions)
                        self._rows.append((row, path, turned if flipped else axis, at))

    @torch.no_grad()
    def __call__(self) -> Tensor:
        """See `Importance`."""
        state = dict(self.twin.named_parameters(remove_duplicate=False))
        found = torch.zeros(len(self.widths), int(self.widths.max()), dtype=torch.float64)
        for row, path, axis, positions in self._rows:
            norms = state[path].abs().transpose(0, axis).flatten(1).sum(1).double()
            if (factors := factors_behind(self.twin, path.rpartition(".")[0])) is not None:
                norms = norms * factors.abs()
            made = norms.cpu()[positions].sum(1)
            found[row, : len(made)] += made
        return found


def _paths(twin: fx.GraphModule) -> dict[str, tuple[str, bool]]:
    """Initializer -> a parameter that holds it, and whether it does so transposed."""
    parameters = dict(twin.named_parameters(remove_duplicate=False))
    return {
        name: (path, transform == "transpose")
        for path, (name, transform) in initializers(twin).items()
        if path in parameters
    }
