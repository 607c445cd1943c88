"""The values the coupling analysis hands to everybody else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np
from numpy.typing import NDArray

Widths = Mapping[str, int]  # group name -> channels kept; a group left out keeps its full width
Keep = Mapping[str, "Sequence[int] | NDArray[np.int64]"]  # group name -> channels that stay, sorted


@dataclass(frozen=True, slots=True)
class Member:
    """One axis of one initializer that a group runs through.

    `positions` is `width x repeat`: row u lists the indices along `axis` that belong to channel u
    of the group (repeat > 1 where a channel was flattened into several columns, or where blocks of
    a grouped convolution are tied).
    """

    tensor: str
    axis: int
    positions: NDArray[np.int64]

    def channels(self, length: int) -> NDArray[np.int64]:
        """The channel that each index along the axis belongs to; `width` for none."""
        width = len(self.positions)
        found = np.full(length, width)
        found[self.positions] = np.arange(width)[:, None]
        return found


@dataclass(frozen=True, slots=True)
class ChannelGroup:
    """Channels that can only be removed together with all their members.

    `producers` are the nodes whose weights create these channels, `consumers` the nodes with
    weights that read them (a depthwise convolution is in neither). `frozen` is the reason why the
    group must keep its width, or None.
    """

    name: str
    width: int
    members: tuple[Member, ...]
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    frozen: str | None = None


@dataclass(frozen=True, slots=True)
class AxisWidth:
    """Length of one axis of a tensor: fixed + the sum over `parts` of repeat * product of kept.

    Each part names the groups whose channels span it (heads and the width of each, say).
    """

    fixed: int
    parts: tuple[tuple[tuple[str, ...], int], ...] = ()  # (group names, repeat)

    def at(self, widths: Widths, full: Widths) -> int:
        """The length when groups have `widths` (absent: `full`)."""
        lengths = (r * prod(widths.get(g, full[g]) for g in groups) for groups, r in self.parts)
        return self.fixed + sum(lengths)

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups that the length depends on."""
        return tuple(dict.fromkeys(group for groups, _ in self.parts for group in groups))


@dataclass(frozen=True, slots=True)
class Layout:
    """Which channels stand where along one axis of an activation (`positions x k`).

    Position p goes with channel `channel[p, i]` of group `group[p, i]` (an index into
    `Coupling.groups`), for any i; group -1 fills up, and a row of it always stays.
    """

    axis: int
    group: NDArray[np.int64]
    channel: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Branch:
    """A residual branch that may be removed whole: `add` then yields its other input.

    `nodes` are the nodes that disappear with it (without `add` itself, which disappears too);
    `kept_input` is the index of the input of `add` that stays.
    """

    name: str
    add: str
    kept_input: int
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Coupling:
    """What can be pruned in one graph, and how every tensor's shape follows from it."""

    groups: tuple[ChannelGroup, ...]
    branches: tuple[Branch, ...]
    shapes: Mapping[str, tuple[AxisWidth, ...]]  # every tensor, initializers included
    full: Mapping[str, int] = field(default_factory=dict)  # group name -> full width
    layouts: Mapping[str, tuple[Layout, ...]] = field(default_factory=dict)  # of activations

    def layout(self, tensor: str, axis: int) -> Layout | None:
        """What lies along one axis of an activation; None if nothing there can be removed."""
        return next((found for found in self.layouts.get(tensor, ()) if found.axis == axis), None)

    def kept(self, tensor: str, axis: int, keep: Keep) -> NDArray[np.int64] | None:
        """Positions of an activation, along `axis`, that stay when each group keeps the channels
        `keep[group]` (absent: all). None if nothing can be removed along that axis.
        """
        layout = self.layout(tensor, axis)
        if layout is None:
            return None
        stays = np.ones(layout.group.shape, bool)
        for index, group in enumerate(self.groups):
            if group.name in keep:
                inside = layout.group == index
                stays[inside] = np.isin(layout.channel[inside], keep[group.name])
        return np.flatnonzero(stays.all(axis=1))

    def shape(self, tensor: str, widths: Widths) -> tuple[int, ...]:
        """Shape of `tensor` when the groups have `widths`."""
        return tuple(axis.at(widths, self.full) for axis in self.shapes[tensor])

    def group(self, name: str) -> ChannelGroup:
        """The group of that name (KeyError if there is none)."""
        return next(g for g in self.groups if g.name == name)

    @property
    def prunable(self) -> tuple[ChannelGroup, ...]:
        """The groups that are not frozen."""
        return tuple(g for g in self.groups if g.frozen is None)
