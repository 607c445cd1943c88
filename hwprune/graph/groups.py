"""Classes of channel ids -> groups: channels that occur at the same places are one group."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from hwprune.graph.channels import AxisWidth, ChannelGroup, Layout, Member
from hwprune.graph.flow import Flow
from hwprune.graph.ids import NONE, Ids
from hwprune.graph.tidy import unique

Place = tuple[str, int]  # (tensor, axis)


@dataclass(frozen=True, slots=True)
class Classes:
    """Classes in the order in which they first appear, and the places each occurs at."""

    places: dict[Place, Ids]  # representatives; initializers first, then activations
    weights: int  # so many of the places are initializers
    roots: list[list[int]]  # one list of representatives per group
    reasons: list[str | None]


def classify(flow: Flow) -> Classes:
    """Gathers classes with the same signature: same places, same count there, same reason."""
    find = flow.channels.find
    weights = {place: find(ids) for place, ids in flow.attached.items()}
    lines = {(name, line.axis): find(line.ids) for name, line in flow.lines.items()}
    places = weights | lines
    signature: dict[int, list[tuple[int, int]]] = {}
    for number, ids in enumerate(places.values()):
        for root, count in Counter(ids[ids != NONE].tolist()).items():
            signature.setdefault(root, []).append((number, count))
    frozen, found = flow.channels.frozen(), dict[object, list[int]]()
    for root in _by_appearance([*lines.values(), *weights.values()]):
        found.setdefault((tuple(signature[root]), frozen.get(root)), []).append(root)
    roots = list(found.values())
    return Classes(places, len(weights), roots, [frozen.get(group[0]) for group in roots])


def form_groups(flow: Flow, classes: Classes) -> tuple[ChannelGroup, ...]:
    """Names the groups by their first producer and lists their members."""
    owner = {root: g for g, roots in enumerate(classes.roots) for root in roots}
    producers = _roles(flow, flow.producers, owner)
    consumers = _roles(flow, flow.consumers, owner)
    members = _members(classes, owner)
    groups: list[ChannelGroup] = []
    for number, roots in enumerate(classes.roots):
        made, first = producers.get(number, ()), next(iter(members.get(number, ())), None)
        name = made[0] if made else f"padding.{first.tensor if first else number}"
        name = unique(name, {group.name for group in groups})
        reason = classes.reasons[number] or _trivial(len(roots), made)
        read = consumers.get(number, ())
        groups.append(ChannelGroup(name, len(roots), members.get(number, ()), made, read, reason))
    return tuple(groups)


def layouts(flow: Flow, classes: Classes) -> dict[str, Layout]:
    """Group and channel at every position of every activation that has channels."""
    where = {root: (g, u) for g, rs in enumerate(classes.roots) for u, root in enumerate(rs)}
    result = {}
    for name, line in flow.lines.items():
        ids = classes.places[(name, line.axis)]
        pairs = np.array([where.get(root, (NONE, NONE)) for root in ids.tolist()])
        result[name] = Layout(line.axis, pairs[:, 0], pairs[:, 1])
    return result


def axis_widths(
    graph: gs.Graph, classes: Classes, groups: tuple[ChannelGroup, ...]
) -> dict[str, tuple[AxisWidth, ...]]:
    """The shape of every tensor as a function of the groups' widths."""
    owner = {root: g for g, roots in enumerate(classes.roots) for root in roots}
    shapes = {}
    for name, tensor in graph.tensors().items():
        axes = []
        for axis, size in enumerate(tensor.shape):
            ids = classes.places.get((name, axis))
            count = Counter(owner.get(root, NONE) for root in ([] if ids is None else ids.tolist()))
            fixed = int(size) if ids is None else count.pop(NONE, 0)
            parts = ((groups[g].name, n // groups[g].width) for g, n in count.items())
            axes.append(AxisWidth(fixed, tuple(parts)))
        shapes[name] = tuple(axes)
    return shapes


def _members(classes: Classes, owner: Mapping[int, int]) -> dict[int, tuple[Member, ...]]:
    members: dict[int, list[Member]] = {}
    for (tensor, axis), ids in list(classes.places.items())[: classes.weights]:
        positions: dict[int, list[int]] = {}
        for position, root in enumerate(ids.tolist()):
            positions.setdefault(root, []).append(position)
        for group in dict.fromkeys(owner[root] for root in positions if root != NONE):
            rows = np.array([positions[root] for root in classes.roots[group]], np.int64)
            members.setdefault(group, []).append(Member(tensor, axis, rows))
    return {group: tuple(found) for group, found in members.items()}


def _roles(
    flow: Flow, roles: Iterable[tuple[str, Ids]], owner: Mapping[int, int]
) -> dict[int, tuple[str, ...]]:
    nodes: dict[int, list[str]] = {}
    for node, ids in roles:
        roots = np.unique(flow.channels.find(ids[ids != NONE])).tolist()
        for group in sorted({owner[root] for root in roots}):
            nodes.setdefault(group, []).append(node)
    return {group: tuple(dict.fromkeys(names)) for group, names in nodes.items()}


def _by_appearance(lines: Iterable[Ids]) -> Iterable[int]:
    seen = dict.fromkeys(root for ids in lines for root in ids.tolist())
    return (root for root in seen if root != NONE)


def _trivial(width: int, producers: tuple[str, ...]) -> str | None:
    if not producers:
        return "no weights make these channels (zero padding)"
    return "has a single channel" if width == 1 else None
