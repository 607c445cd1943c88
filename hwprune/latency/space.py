"""The search space of one network on one target: offered widths, branches, kernels and bits.

Every choice is a variable with a few options; an assignment (variable -> option) stands for one
`Configuration`. Variables are named `width:<group>`, `branch:<name>`, `kernel:<node>` and
`bits:<node>`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

from hwprune.graph.channels import ChannelGroup, Coupling, Widths
from hwprune.latency.kernels import KernelGraph
from hwprune.plan import Configuration
from hwprune.precision import INT8

_MOST_GROUPS = 4  # a kernel that depends on more groups than this has them share one keep ratio
_MOST_FORMS = 1024  # combinations of the kernels around one tensor: a table holds them all


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """Options per variable; option 0 is the narrowest (branch: dropped; kernel: fp32).

    `weight_bits` are what the weight of a node that runs in int8 may have in the file: time does
    not depend on them.
    """

    widths: Mapping[str, tuple[Mapping[str, int], ...]]
    branches: tuple[str, ...]
    kernels: Mapping[str, tuple[str, ...]]
    weight_bits: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def sizes(self) -> dict[str, int]:
        """Number of options of every variable."""
        found = {f"width:{v}": len(options) for v, options in self.widths.items()}
        found |= {f"branch:{b}": 2 for b in self.branches}
        found |= {f"kernel:{n}": len(options) for n, options in self.kernels.items()}
        return found | {f"bits:{n}": len(options) for n, options in self.weight_bits.items()}

    @property
    def shares(self) -> dict[str, tuple[float, ...]]:
        """Of its channels, how many every option of a width variable keeps: the last one all."""
        return {
            f"width:{v}": tuple(sum(o.values()) / sum(options[-1].values()) for o in options)
            for v, options in self.widths.items()
        }

    def variable_of(self) -> dict[str, str]:
        """Group name -> the width variable that sets it."""
        return {g: f"width:{v}" for v, options in self.widths.items() for g in options[0]}

    def configuration(self, assignment: Mapping[str, int]) -> Configuration:
        """What an assignment stands for; variables left out keep everything, in fp32."""
        widths: dict[str, int] = {}
        for name, options in self.widths.items():
            widths |= options[assignment.get(f"width:{name}", len(options) - 1)]
        dropped = frozenset(b for b in self.branches if assignment.get(f"branch:{b}", 1) == 0)
        kernels = {n: o[assignment.get(f"kernel:{n}", 0)] for n, o in self.kernels.items()}
        bits = {
            n: options[assignment.get(f"bits:{n}", len(options) - 1)]
            for n, options in self.weight_bits.items()
            if kernels.get(n) == INT8
        }
        return Configuration(widths, dropped, kernels, bits)


def widths_behind(
    space: SearchSpace, coupling: Coupling, tensors: Sequence[str]
) -> dict[str, tuple[Mapping[str, int], ...]]:
    """The width variables that the shapes of `tensors` depend on, with their options."""
    variable_of = space.variable_of()
    found = (variable_of[g] for g in groups_of(coupling, tensors) if g in variable_of)
    return {v: space.widths[v.removeprefix("width:")] for v in dict.fromkeys(found)}


def build_space(
    network: KernelGraph, step: int, coarse_step: int, most: int = 8, precisions: bool = True
) -> SearchSpace:
    """Offers every group the widths of `offered_widths`, at most `most` of them on the steps."""
    coupling = network.coupling
    options: dict[str, tuple[Mapping[str, int], ...]] = {}
    for cluster in _clusters(network):
        name = cluster[0].name
        if len(cluster) == 1:
            offered = offered_widths(cluster[0].width, step, coarse_step, most)
            options[name] = tuple({name: w} for w in offered)
        else:
            options[name] = _shared_ratio(cluster, step, most)
    kernels = {s.node: s.precisions for s in network.steps if precisions and len(s.precisions) > 1}
    branches = tuple(b.name for b in coupling.branches)
    return SearchSpace(options, branches, _affordable(kernels, network))


def offered_widths(width: int, step: int, coarse_step: int, most: int) -> tuple[int, ...]:
    """Useful widths up to `width`, ascending: at most `most` of them on the steps, and a half and
    a quarter of a step, which the layers around are cheaper for where the convolution is not.
    """
    narrow = {w for w in (step // 4, step // 2) if 0 < w < width}
    return tuple(sorted(narrow | _ladder(width, step, coarse_step, most)))


def _ladder(width: int, step: int, coarse_step: int, most: int) -> set[int]:
    """Multiples of `step`, of `coarse_step` by preference, and `width` itself."""
    fine = [*range(step, width, step), width]
    if len(fine) <= most:
        return set(fine)
    coarse = [*range(coarse_step, width, coarse_step), width]
    if len(coarse) > most:
        return {coarse[round(i * (len(coarse) - 1) / (most - 1))] for i in range(most)}
    spare = [w for w in fine if w not in coarse]
    extra = most - len(coarse)
    return {*coarse, *(spare[round((i + 0.5) * len(spare) / extra - 0.5)] for i in range(extra))}


def _affordable(
    kernels: Mapping[str, tuple[str, ...]], network: KernelGraph
) -> dict[str, tuple[str, ...]]:
    """Without the last kernels of nodes at tensors that many read, as long as one has others left
    than fp32 and int8.
    """
    found = dict(kernels)
    for link in network.links:
        nodes = [n for n in (link.producer, *link.consumers) if n in found]
        while prod(len(found[n]) for n in nodes) > _MOST_FORMS:
            longest = max(nodes, key=lambda n: len(found[n]))
            if len(found[longest]) <= 2:
                break
            found[longest] = found[longest][:-1]
    return found


def full_widths(space: SearchSpace) -> Widths:
    """Every group of the space at its full width."""
    return {g: w for options in space.widths.values() for g, w in options[-1].items()}


def _shared_ratio(
    cluster: Sequence[ChannelGroup], step: int, most: int
) -> tuple[Mapping[str, int], ...]:
    found: list[dict[str, int]] = []
    for i in range(1, most + 1):
        widths = {
            g.name: min(g.width, max(step, round(i / most * g.width / step) * step))
            for g in cluster
        }
        if i == most:
            widths = {g.name: g.width for g in cluster}
        if not found or widths != found[-1]:
            found.append(widths)
    return tuple(found)


def _clusters(network: KernelGraph) -> list[list[ChannelGroup]]:
    """Groups in order, joined where one kernel depends on too many of them at once."""
    coupling = network.coupling
    leader = {g.name: g.name for g in coupling.prunable}

    def find(name: str) -> str:
        while leader[name] != name:
            name = leader[name]
        return name

    for step in network.steps:
        touched = sorted(
            {find(g) for g in groups_of(coupling, (*step.inputs, step.output)) if g in leader}
        )
        if len(touched) > _MOST_GROUPS:
            for other in touched[1:]:
                leader[find(other)] = find(touched[0])
    clusters: dict[str, list[ChannelGroup]] = {}
    for group in coupling.prunable:
        clusters.setdefault(find(group.name), []).append(group)
    return list(clusters.values())


def groups_of(coupling: Coupling, tensors: Sequence[str]) -> list[str]:
    """Names of the groups that the shapes of `tensors` depend on."""
    axes = [axis for t in tensors for axis in coupling.shapes[t]]
    return list(dict.fromkeys(name for axis in axes for name in axis.groups))
