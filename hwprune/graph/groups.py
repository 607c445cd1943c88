"""Classes of channel ids -> groups: channels that occur at the same places are one group."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from hwprune.graph.channels import AxisWidth, ChannelGroup, Layout, Member
from hwprune.graph.flow import Flow
from hwprune.graph.ids import NONE, Ids, sets
from hwprune.graph.tidy import unique

Place = tuple[str, int]  # (tensor, axis)
_SINGLE = "has a single channel"


@dataclass(frozen=True, slots=True)
class Classes:
    """Classes in the order in which they first appear, and the places each occurs at."""

    places: dict[Place, Ids]  # representatives; initializers first, then activations
    weights: int  # so many of the places are initializers
    roots: list[list[int]]  # one list of representatives per group
    reasons: list[str | None]

    @property
    def owner(self) -> dict[int, int]:
        """Representative -> group."""
        return {root: group for group, roots in enumerate(self.roots) for root in roots}


def classify(flow: Flow) -> Classes:
    """Gathers classes with the same signature: same places, same count there, same reason."""
    find = flow.channels.find
    weights = {place: find(ids) for place, ids in flow.attached.items()}
    lines = {(n, axis): find(ids) for n, own in flow.lines.items() for axis, ids in own.items()}
    places = weights | lines
    frozen = flow.channels.frozen()
    for ids in places.values():
        for root in _everywhere(ids):
            frozen.setdefault(root, _SINGLE)
    stuck = np.fromiter(frozen, np.int64, len(frozen))
    weights = {place: _deciding(ids, stuck) for place, ids in weights.items()}
    made_or_read = [ids.ravel() for ids in weights.values()]
    known = np.unique(np.concatenate([np.array([NONE]), *made_or_read]))
    lines = {place: _known(ids, known) for place, ids in lines.items()}
    places = weights | lines
    gathered = _gathered(places, len(weights), frozen)
    return Classes(places, len(weights), gathered, [frozen.get(roots[0]) for roots in gathered])


def form_groups(flow: Flow, classes: Classes) -> tuple[ChannelGroup, ...]:
    """Names the groups by their first producer and lists their members."""
    owner = classes.owner
    producers = _roles(flow, flow.producers, owner)
    consumers = _roles(flow, flow.consumers, owner)
    members = _members(classes, owner)
    ragged = _ragged(classes)
    groups: list[ChannelGroup] = []
    for number, roots in enumerate(classes.roots):
        made, first = producers.get(number, ()), next(iter(members.get(number, ())), None)
        name = made[0] if made else f"padding.{first.tensor if first else number}"
        name = unique(name, {group.name for group in groups})
        reason = classes.reasons[number] or ragged.get(number) or _trivial(len(roots), made)
        read = consumers.get(number, ())
        groups.append(ChannelGroup(name, len(roots), members.get(number, ()), made, read, reason))
    return tuple(groups)


def layouts(flow: Flow, classes: Classes) -> dict[str, tuple[Layout, ...]]:
    """Group and channel at every position of every activation that has channels."""
    where = {root: (g, u) for g, rs in enumerate(classes.roots) for u, root in enumerate(rs)}
    result: dict[str, list[Layout]] = {}
    for (name, axis), ids in list(classes.places.items())[classes.weights :]:
        pairs = np.array([[where.get(root, (NONE, NONE)) for root in row] for row in ids.tolist()])
        if np.any(pairs[..., 0] != NONE):
            result.setdefault(name, []).append(Layout(axis, pairs[..., 0], pairs[..., 1]))
    return {name: tuple(found) for name, found in result.items()}


def axis_widths(
    graph: gs.Graph, classes: Classes, groups: tuple[ChannelGroup, ...]
) -> dict[str, tuple[AxisWidth, ...]]:
    """The shape of every tensor as a function of the groups' widths."""
    owner = classes.owner
    shapes = {}
    for name, tensor in graph.tensors().items():
        axes = []
        for axis, size in enumerate(tensor.shape):
            ids = classes.places.get((name, axis))
            spans = Counter({(): int(size)}) if ids is None else _spans(ids, owner)
            fixed = spans.pop((), 0)
            parts = (
                (tuple(groups[g].name for g in span), n // prod(groups[g].width for g in span))
                for span, n in spans.items()
            )
            axes.append(AxisWidth(fixed, tuple(parts)))
        shapes[name] = tuple(axes)
    return shapes


def _gathered(
    places: Mapping[Place, Ids], weights: int, frozen: Mapping[int, str]
) -> list[list[int]]:
    """Representatives with the same signature, one list per group, in order of appearance."""
    signature: dict[int, list[tuple[int, int]]] = {}
    for number, ids in enumerate(places.values()):
        for root, count in Counter(ids[ids != NONE].tolist()).items():
            signature.setdefault(root, []).append((number, count))
    in_order = list(places.values())
    found: dict[object, list[int]] = {}
    for root in _by_appearance([*in_order[weights:], *in_order[:weights]]):
        found.setdefault((tuple(signature[root]), frozen.get(root)), []).append(root)
    return list(found.values())


def _deciding(ids: Ids, frozen: NDArray[np.int64]) -> Ids:
    """Without the frozen ids that stand beside others: they decide nothing."""
    if ids.shape[1] == 1:
        return ids
    stays = (ids != NONE) & ~np.isin(ids, frozen)
    stays[~stays.any(axis=1), 0] = True
    return sets(np.where(stays, ids, NONE))


def _known(ids: Ids, known: NDArray[np.int64]) -> Ids:
    """Without the ids of channels that no weight makes or reads."""
    return sets(np.where(np.isin(ids, known), ids, NONE))


def _everywhere(ids: Ids) -> list[int]:
    """The ids that all positions share: without them there would be no tensor."""
    first = [root for root in ids[0].tolist() if root != NONE]
    return [root for root in first if np.all(np.any(ids == root, axis=1))]


def _spans(ids: Ids, owner: Mapping[int, int]) -> Counter[tuple[int, ...]]:
    """How many positions each combination of groups decides about."""
    return Counter(
        tuple(sorted({owner[root] for root in row if root != NONE})) for row in ids.tolist()
    )


def _ragged(classes: Classes) -> dict[int, str]:
    """Groups that together span an axis, but not as a full grid; with the reason to freeze them."""
    owner, found = classes.owner, dict[int, str]()
    for (tensor, _), ids in classes.places.items():
        if ids.shape[1] == 1:
            continue
        for span, rows in _by_span(ids, owner).items():
            counts = set(Counter(rows).values())
            cells = prod(len(classes.roots[group]) for group in span)
            if len(counts) > 1 or len(set(rows)) != cells or len(rows[0]) != len(span):
                reason = f"its channels span {tensor!r} together with others, but form no grid"
                found |= dict.fromkeys(span, reason)
    return found


def _by_span(ids: Ids, owner: Mapping[int, int]) -> dict[tuple[int, ...], list[tuple[int, ...]]]:
    found: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
    for row in ids.tolist():
        real = tuple(root for root in row if root != NONE)
        span = tuple(sorted({owner[root] for root in real}))
        if len(real) > 1:
            found.setdefault(span, []).append(real)
    return found


def _members(classes: Classes, owner: Mapping[int, int]) -> dict[int, tuple[Member, ...]]:
    members: dict[int, list[Member]] = {}
    for (tensor, axis), ids in list(classes.places.items())[: classes.weights]:
        positions: dict[int, list[int]] = {}
        for position, row in enumerate(ids.tolist()):
            for root in row:
                if root != NONE:
                    positions.setdefault(root, []).append(position)
        for group in dict.fromkeys(owner[root] for root in positions):
            rows = np.array([positions[root] for root in classes.roots[group]], np.int64)
            members.setdefault(group, []).append(Member(tensor, axis, rows))
    return {group: tuple(found) for group, found in members.items()}


def _roles(
    flow: Flow, roles: Iterable[tuple[str, Ids]], owner: Mapping[int, int]
) -> dict[int, tuple[str, ...]]:
    nodes: dict[int, list[str]] = {}
    for node, ids in roles:
        roots = np.unique(flow.channels.find(ids)).tolist()
        for group in sorted({owner[root] for root in roots if root in owner}):
            nodes.setdefault(group, []).append(node)
    return {group: tuple(dict.fromkeys(names)) for group, names in nodes.items()}


def _by_appearance(lines: Iterable[Ids]) -> Iterable[int]:
    seen = dict.fromkeys(root for ids in lines for root in ids.ravel().tolist())
    return (root for root in seen if root != NONE)


def _trivial(width: int, producers: tuple[str, ...]) -> str | None:
    if not producers:
        return "no weights make these channels (zero padding)"
    return _SINGLE if width == 1 else None
