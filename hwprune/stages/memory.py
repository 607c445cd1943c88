"""The memory of activations: what lies there at once while a network runs, step by step."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
import onnx_graphsurgeon as gs

from hwprune.graph.coupling import couple
from hwprune.latency.kernels import KernelGraph
from hwprune.latency.space import SearchSpace, widths_behind
from hwprune.latency.structure import Step
from hwprune.plan import Configuration
from hwprune.precision import INT8
from hwprune.search.problem import Bound, Factor
from hwprune.stages.subject import Subject

_VIEWS = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"}  # copy nothing
_FLOAT, _INTEGER = 4, 1  # bytes
_MOST_KERNELS = 4  # around one tensor: beyond that it counts as if it were there in both precisions


@dataclass(frozen=True)
class Activations:
    """The tensors of a network, those in memory at each step among them.

    At a step there are what it reads, what it writes, and what later steps still read; views of a
    tensor are that tensor. One that some read as integers and others as fp32 is there twice. What
    a kernel needs to work in is the runtime's affair and left out.
    """

    graph: gs.Graph
    network: KernelGraph

    def peak_bytes(self, c: Configuration) -> int:
        """The most there is at any step of a configuration."""
        sizes = {t: self._bytes(t, c) for live in self.live.values() for t in live}
        return max((sum(sizes[t] for t in live) for live in self.live.values()), default=0)

    def bounds(self, space: SearchSpace, most: float) -> tuple[Bound, ...]:
        """At most `most` bytes at every step, but where that holds anyway; by the step's node."""
        sizes = {t: self._factor(t, space) for live in self.live.values() for t in live}
        found: dict[frozenset[str], str] = {}
        for node, live in self.live.items():
            tight = sum(float(sizes[t].table.max()) for t in live) > most
            if tight and not any(live <= other for other in found):
                found = {other: n for other, n in found.items() if not other <= live}
                found[live] = node
        return tuple(
            Bound(
                f"what lies in memory at {node}", tuple(sizes[t] for t in sorted(live)), 0.0, most
            )
            for live, node in found.items()
        )

    @cached_property
    def live(self) -> Mapping[str, frozenset[str]]:
        """Node of each step -> the tensors in memory there, views as what they show."""
        steps = self.network.steps
        first: dict[str, int] = {}
        last: dict[str, int] = {}
        leaving = {self._shown(t.name) for t in self.graph.outputs}
        for i, step in enumerate(steps):
            read = [t for t in step.inputs if t in self._computed]
            for tensor in map(self._shown, (*read, *self._written[step.node])):
                first.setdefault(tensor, 0 if self._maker(tensor) is None else i)
                last[tensor] = len(steps) if tensor in leaving else i
        return {
            step.node: frozenset(t for t in first if first[t] <= i <= last[t])
            for i, step in enumerate(steps)
        }

    @cached_property
    def _written(self) -> Mapping[str, tuple[str, ...]]:
        """Node of each step -> everything it writes that is read or leaves."""
        known = {node.name: node for node in self.graph.nodes}
        found = {}
        for step in self.network.steps:
            others = [t.name for t in known[step.node].outputs[1:]]
            found[step.node] = tuple(t for t in (step.output, *others) if t in self._links)
        return found

    @cached_property
    def _links(self) -> frozenset[str]:
        return frozenset(link.tensor for link in self.network.links)

    @cached_property
    def _computed(self) -> frozenset[str]:
        """Tensors that are no constants."""
        return self._links | {t.name for t in self.graph.inputs}

    @cached_property
    def _makers(self) -> Mapping[str, Step]:
        by_node = self.network.by_node
        return {t: by_node[node] for node, written in self._written.items() for t in written}

    def _maker(self, tensor: str) -> Step | None:
        return self._makers.get(tensor)

    def _shown(self, tensor: str) -> str:
        maker = self._maker(tensor)
        while maker is not None and maker.op in _VIEWS and maker.inputs[0] in self._computed:
            tensor = maker.inputs[0]
            maker = self._maker(tensor)
        return tensor

    def _bytes(self, tensor: str, c: Configuration) -> int:
        shape = self.network.structure.shapes.at(tensor, c.widths)
        return prod(shape) * self._per_value(tensor, c.kernels, c.dropped)

    def _per_value(self, tensor: str, kernels: Mapping[str, str], dropped: frozenset[str]) -> int:
        """Bytes; none where the branch that would write it is gone."""
        maker, structure = self._maker(tensor), self.network.structure
        if maker is not None and not (
            structure.left(maker.node, dropped) or structure.passes(maker.node, dropped)
        ):
            return 0
        as_integers = (
            maker is not None
            and self._is_int8(maker, kernels)
            and (structure.ends_on_integers(maker))
        )
        reads = [self._is_int8(step, kernels) for step in self._readers(tensor)]
        leaves = any(t.name == tensor for t in self.graph.outputs)
        floats = not as_integers or leaves or not all(reads)
        return _FLOAT * floats + _INTEGER * (as_integers or any(reads))

    def _is_int8(
        self, step: Step, kernels: Mapping[str, str], seen: frozenset[str] = frozenset()
    ) -> bool:
        """Whether a step computes on integers, or passes them on between steps that do."""
        if not self._passes_on(step):
            return kernels.get(step.node, "fp32") == INT8
        around = [s for s in self._around(step) if s.node not in seen]
        return bool(around) and all(self._is_int8(s, kernels, seen | {step.node}) for s in around)

    def _passes_on(self, step: Step) -> bool:
        able = self.network.capabilities
        return step.op in able.passthrough and INT8 not in step.precisions

    def _around(self, step: Step) -> Iterator[Step]:
        """Those who write what a step reads, and who read what it writes."""
        yield from filter(None, map(self._maker, step.inputs))
        for tensor in self._written[step.node]:
            yield from self._readers(tensor)

    def _readers(self, tensor: str) -> Sequence[Step]:
        return self.network.structure.readers.get(tensor, ())

    def _factor(self, tensor: str, space: SearchSpace) -> Factor:
        """Bytes by the widths, kernels and branches around a tensor."""
        structure = self.network.structure
        widths = widths_behind(space, self.network.coupling, [tensor])
        options = list(widths.values())
        values = np.zeros([len(o) for o in options])
        for at in np.ndindex(values.shape):
            chosen = {g: w for o, i in zip(options, at, strict=True) for g, w in o[i].items()}
            values[at] = prod(structure.shapes.at(tensor, chosen))
        maker = self._maker(tensor)
        branches = sorted(self.network.within[maker.node]) if maker is not None else []
        nodes = sorted(self._telling(tensor) & set(space.kernels))
        few = len(nodes) <= _MOST_KERNELS
        told = nodes if few else []
        each = np.full(
            [len(space.kernels[n]) for n in told] + [2] * len(branches), _FLOAT + _INTEGER
        )
        for at in np.ndindex(each.shape):
            dropped = frozenset(
                b for b, kept in zip(branches, at[len(told) :], strict=True) if not kept
            )
            kernels = {n: space.kernels[n][i] for n, i in zip(told, at, strict=False)}
            found = self._per_value(tensor, kernels, dropped)
            each[at] = found if few or not found else _FLOAT + _INTEGER
        scope = (*widths, *(f"kernel:{n}" for n in told), *(f"branch:{b}" for b in branches))
        return Factor(scope, np.multiply.outer(values, each).astype(np.float64))

    def _telling(self, tensor: str) -> set[str]:
        """Nodes whose kernels tell in which precisions a tensor is there."""
        maker = self._maker(tensor)
        waiting = [*self._readers(tensor), *([maker] if maker else [])]
        found: set[str] = set()
        passed: set[str] = set()
        while waiting:
            step = waiting.pop()
            if not self._passes_on(step):
                found.add(step.node)
            elif step.node not in passed:
                passed.add(step.node)
                waiting += self._around(step)
        return found


def peak_bytes(subject: Subject, graph: gs.Graph, kernels: Mapping[str, str]) -> int:
    """Of a graph that is carried out already, on a target, in these kernels."""
    network = KernelGraph(graph, couple(graph), subject.capabilities)
    c = network.settled(Configuration(kernels=kernels))
    return Activations(graph, network).peak_bytes(c)
