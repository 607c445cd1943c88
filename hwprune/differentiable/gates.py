"""Gates: a twin that computes as if channels were gone, while they are all there.

A gate of 0 takes a channel out of the weights that read it, which is what slimming does to the
network's function, whatever lies between (biases, depthwise convolutions, sums). A layer that is
gated where it makes the channel would still add its bias behind the gate.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import onnx_graphsurgeon as gs
import torch
from torch import Tensor, fx, nn
from torch.func import functional_call

from hwprune.graph.channels import Branch, ChannelGroup, Coupling, Member
from hwprune.graph.cost import input_axis, weight_input
from hwprune.network.twin import initializers

Gates = Mapping[str, Tensor]  # group -> a factor for each of its channels


class Gated(nn.Module):
    """A twin whose weights are multiplied by gates in every forward pass.

    Statistics over channels (LayerNorm, means) still see closed channels, as zeros in front of
    their readers never reach them: there, gates are near what slimming gives, not equal to it.
    """

    def __init__(
        self,
        twin: fx.GraphModule,
        graph: gs.Graph,
        coupling: Coupling,
        groups: Sequence[str],
        gates: Callable[[bool], Gates],
    ) -> None:
        """Takes `twin` of `graph` over; `gates` is asked in every pass, True while training."""
        super().__init__()
        self.twin, self.gates = twin, gates
        self._places = _places(graph, coupling, groups)
        paths = initializers(twin)
        self._paths = [
            (path, *origin) for path, origin in paths.items() if origin[0] in self._places
        ]

    def forward(self, *x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """As the twin's."""
        return cast("Tensor", functional_call(self.twin, self._masked(), x))

    @torch.no_grad()
    def bake(self) -> None:
        """Leaves the weights of the twin as the gates make them."""
        state = dict(self.twin.named_parameters(remove_duplicate=False))
        for path, weight in self._masked().items():
            state[path].copy_(weight)

    def _masked(self) -> dict[str, Tensor]:
        """The gated weights, by path."""
        gates = self.gates(self.training)
        state = dict(self.twin.named_parameters(remove_duplicate=False))
        masked = {}
        for path, tensor, transform in self._paths:
            mask, weight = self._mask(tensor, gates), state[path]
            mask = mask.T if transform == "transpose" else mask
            if weight.ndim != mask.ndim:  # torch wants a vector where the graph has a column
                mask = mask.expand(self._places[tensor][0]).reshape(weight.shape)
            masked[path] = weight * mask.to(weight)
        return masked

    def _mask(self, tensor: str, gates: Gates) -> Tensor:
        """Of an initializer, in its own layout; axes without gates have length 1."""
        shape, gated = self._places[tensor]
        mask = torch.ones([1] * len(shape), dtype=torch.float64)
        for axis, group, channels in gated:
            factors = torch.cat([gates[group], torch.ones(1, dtype=torch.float64)])
            mask = mask * factors[channels].reshape(
                [-1 if a == axis else 1 for a in range(len(shape))]
            )
        return mask


_Place = tuple[tuple[int, ...], list[tuple[int, str, Tensor]]]  # shape, (axis, group, channels)


def _places(graph: gs.Graph, coupling: Coupling, groups: Sequence[str]) -> dict[str, _Place]:
    """Where each initializer has gates."""
    nodes, tensors = {node.name: node for node in graph.nodes}, graph.tensors()
    found: dict[str, _Place] = {}
    for group in map(coupling.group, groups):
        for member in _gated(group, nodes, _is_summed(graph, coupling, group)):
            shape = tuple(int(size) for size in tensors[member.tensor].shape)
            channels = torch.from_numpy(member.channels(shape[member.axis]))
            place = found.setdefault(member.tensor, (shape, []))
            place[1].append((member.axis, group.name, channels))
    return found


def _gated(group: ChannelGroup, nodes: Mapping[str, gs.Node], everywhere: bool) -> list[Member]:
    """The members that read the group; all of them where nothing with weights does."""
    reads = {
        (nodes[n].inputs[index].name, input_axis(nodes[n]))
        for n in group.consumers
        if (index := weight_input(nodes[n])) is not None
    }
    found = [m for m in group.members if (m.tensor, m.axis) in reads]
    return list(group.members) if everywhere or not found else found


def _is_summed(graph: gs.Graph, coupling: Coupling, group: ChannelGroup) -> bool:
    """Whether a product of two activations sums over its channels, as of queries with keys."""
    products = (n for n in graph.nodes if n.op == "MatMul" and weight_input(n) is None)
    last = ((n.inputs[0].name, len(n.inputs[0].shape) - 1) for n in products)
    index = coupling.groups.index(group)
    layouts = (coupling.layout(*place) for place in last)
    return any(found is not None and bool((found.group == index).any()) for found in layouts)


def without_branches(twin: fx.GraphModule, branches: Sequence[Branch]) -> None:
    """Takes residual branches out of a twin, in place; their weights stay, unused."""
    for branch in branches:
        adds = [n for n in twin.graph.nodes if n.meta.get("node") == branch.add]
        for add in adds:
            add.replace_all_uses_with(cast("fx.Node", add.args[branch.kept_input]))
    twin.graph.eliminate_dead_code()
    twin.recompile()
