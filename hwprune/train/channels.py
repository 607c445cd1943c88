"""A group of coupled channels inside a network that is being trained.

What a channel weighs is told by the filters that make it, as they are once BatchNorm is folded in;
what shrinks or silences it acts on everything that carries it: the scale and shift behind those
filters, and the slices of all weights that read it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import onnx_graphsurgeon as gs
import torch
from torch import Tensor, fx, nn

from hwprune.graph.channels import ChannelGroup, Member
from hwprune.graph.cost import output_axis, weight_input
from hwprune.network.twin import initializers
from hwprune.train.batchnorm import Norm, factors, norm_behind


class Part:
    """The entries of one parameter that belong to a group's channels, along `axis`."""

    def __init__(self, parameter: nn.Parameter, axis: int, member: Member) -> None:
        self.parameter, self.axis, self.member = parameter, axis, member
        self.width = len(member.positions)
        self._channel = torch.from_numpy(member.channels(parameter.shape[axis]))

    def spread(self, values: Tensor) -> Tensor:
        """A value for each channel, ready to broadcast; 1 for entries of other channels."""
        known = torch.cat([values.to(self.parameter), self.parameter.new_ones(1)])
        return known[self._channels()].view(
            [-1 if a == self.axis else 1 for a in range(self.parameter.ndim)]
        )

    def sums(self, values: Tensor) -> Tensor:
        """Of `values`, shaped like the parameter, over the entries of each channel."""
        moved = values.movedim(self.axis, 0)
        lines = moved.reshape(len(moved), -1).sum(1)
        found = lines.new_zeros(self.width + 1).index_add_(0, self._channels(), lines)
        return found[: self.width]

    def _channels(self) -> Tensor:
        """Of each entry along the axis, where the parameter is; the width for entries of others."""
        if self._channel.device != self.parameter.device:
            self._channel = self._channel.to(self.parameter.device)
        return self._channel


@dataclass(frozen=True, slots=True, eq=False)
class Filter:
    """The filters of one layer that make the channels, and the norm behind them, if any."""

    part: Part
    norm: Norm | None = None

    def sums(self, power: int) -> Tensor:
        """Per channel: |w|^power, added up, of the weight with the norm folded in."""
        weight: Tensor = self.part.parameter
        if self.norm is not None:
            weight = weight * factors(self.norm).view(-1, *[1] * (weight.ndim - 1))
        return self.part.sums(weight.abs().pow(power))


class Channels:
    """One group: `filters` make its channels, `scales` turn them up and down, `parts` carry them.

    `scales` and all others that a channel would not exist without are among `parts`.
    """

    def __init__(
        self, width: int, filters: Sequence[Filter], scales: Sequence[Part], parts: Sequence[Part]
    ) -> None:
        self.width, self.filters, self.scales, self.parts = width, filters, scales, parts

    def norms(self, power: int = 1) -> Tensor:
        """L1 or L2 norm of each channel's filters, over all layers that make it."""
        return self.norms_in_place(power).cpu()

    @torch.no_grad()
    def norms_in_place(self, power: int) -> Tensor:
        """The same, left on the device that the network is on."""
        if not self.filters:  # nothing but its readers tells what it weighs
            found = [part.sums(part.parameter.abs().pow(power)) for part in self.parts]
        else:
            found = [each.sums(power) for each in self.filters]
        return torch.stack(found).sum(0).pow(1 / power).float()

    @torch.no_grad()
    def multiply(self, factors: Tensor) -> None:
        """Turns each channel up or down by a factor; what carries it on stays as it is."""
        self._multiply(self.scales or self.parts, factors)

    @torch.no_grad()
    def shrink(self, factors: Tensor) -> None:
        """Everything that carries a channel, times its factor: at 0 nothing is left of it."""
        self._multiply(self.parts, factors)

    def _multiply(self, parts: Iterable[Part], factors: Tensor) -> None:
        for part in parts:
            part.parameter.mul_(part.spread(factors))


def norms_of(channels: Mapping[str, Channels], power: int = 1) -> dict[str, Tensor]:
    """Of several groups, brought from their device at once: every way there waits for the GPU."""
    if not channels:
        return {}
    line = torch.cat([c.norms_in_place(power) for c in channels.values()]).cpu()
    parts = torch.split(line, [c.width for c in channels.values()])
    return dict(zip(channels, parts, strict=True))


def shrink_all(channels: Mapping[str, Channels], factors: Mapping[str, Tensor]) -> None:
    """`Channels.shrink` for several groups, brought to their device at once."""
    if not factors:
        return
    first = next(iter(channels.values())).parts[0].parameter
    line = torch.cat([f.float() for f in factors.values()]).to(first.device, non_blocking=True)
    parts = torch.split(line, [len(f) for f in factors.values()])
    for name, own in zip(factors, parts, strict=True):
        channels[name].shrink(own)


def channels_of(
    module: fx.GraphModule, graph: gs.Graph, groups: Iterable[ChannelGroup]
) -> dict[str, Channels]:
    """The groups inside a twin, BatchNorm inserted or not, quantised or not.

    Args:
        module: Twin of `graph`, or of what is left of it without some branches.
        graph: The network that the groups are of.
        groups: By their names; those that nothing in the twin carries are left out.
    """
    paths = {name: path for path, (name, _) in initializers(module).items()}
    flipped = {name for name, how in initializers(module).values() if how == "transpose"}
    nodes = {node.name: node for node in graph.nodes}
    found = {}
    for group in groups:
        made = {place for p in group.producers if (place := _weight(nodes[p])) is not None}
        carried = [m for m in group.members if m.tensor in paths]
        one = _Builder(module, paths, flipped).channels(group.width, carried, made)
        if one.parts:
            found[group.name] = one
    return found


def _weight(node: gs.Node) -> tuple[str, int] | None:
    """The weight that makes a node's outputs, and the axis that they lie along."""
    index = weight_input(node)
    return None if index is None else (node.inputs[index].name, output_axis(node))


class _Builder:
    def __init__(
        self, module: fx.GraphModule, paths: Mapping[str, str], flipped: Iterable[str]
    ) -> None:
        self.module, self.paths, self.flipped = module, paths, flipped
        self.parameters = dict(module.named_parameters(remove_duplicate=False))

    def channels(
        self, width: int, members: Sequence[Member], made: Iterable[tuple[str, int]]
    ) -> Channels:
        filters, scales, parts = list[Filter](), list[Part](), list[Part]()
        for member in members:
            path = self.paths[member.tensor]
            if path not in self.parameters:
                continue
            part = self._part(path, member)
            norm = self._norm(path, part)
            carrier = part if norm is None else self._moved(part, path, norm)
            parts.append(carrier)
            if (member.tensor, member.axis) in made:
                filters.append(Filter(part, norm))
                scales.append(carrier)
        return Channels(width, filters, scales, parts)

    def _part(self, path: str, member: Member) -> Part:
        parameter = self.parameters[path]
        last = parameter.ndim - 1
        axis = last - member.axis if member.tensor in self.flipped else member.axis
        return Part(parameter, axis, member)

    def _norm(self, path: str, part: Part) -> Norm | None:
        """The norm that undoes any factor on what the part makes: the channels lie behind it."""
        return norm_behind(self.module, path.rpartition(".")[0]) if part.axis == 0 else None

    def _moved(self, part: Part, path: str, norm: Norm) -> Part:
        own = norm.bias if path.endswith(".bias") else norm.weight
        return Part(own, 0, part.member)
