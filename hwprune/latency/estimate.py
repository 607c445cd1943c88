"""Latency of any configuration, as a sum of small tables over the variables of the search space.

Each step and each link of the kernel graph depends on a handful of variables only (its own kernel,
the widths of the groups it touches, the branches it sits in), so the latency of the whole network
is a sum of factors: exactly what the decoder needs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwprune.backend import Kernel
from hwprune.latency.interpolate import families_of, price_family, select
from hwprune.latency.kernels import KernelGraph, Link, Step
from hwprune.latency.space import SearchSpace, groups_of
from hwprune.plan import Configuration

Lookup = Callable[[Kernel], float | None]
_Emit = Callable[[Mapping[str, int], frozenset[str], Mapping[str, str]], list[Kernel]]
_Form = tuple[int, ...]  # options of the branch and kernel variables of a scope


@dataclass(frozen=True, slots=True)
class LatencyFactor:
    """Nanoseconds that one step or link adds: one axis of `table` per variable of `scope`."""

    name: str
    scope: tuple[str, ...]
    table: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Calibration:
    """What the sum of rows misses of a whole run: a cost per kernel and precision, and a factor.

    Rows are timed inside the runtime, without the dispatch around every kernel; `factor` corrects
    what the closed loop has seen since.
    """

    per_kernel_ns: Mapping[str, float]
    factor: float = 1.0


@dataclass(frozen=True, slots=True)
class _Part:
    """A step or link with everything it may emit.

    `emitted[form][i]` are its kernels in one form at the i-th distinct set of shapes; `shape_of`
    maps every combination of the width variables (`widths`, in C order) to such an i.
    """

    name: str
    widths: tuple[str, ...]
    forms: tuple[str, ...]
    shape_of: NDArray[np.int64]
    emitted: Mapping[_Form, tuple[tuple[Kernel, ...], ...]]


class Estimator:
    """Prices kernels by the table's rows, and between them by interpolation.

    Create it, measure what `wanted()` names, then call `load`.
    """

    def __init__(self, network: KernelGraph, space: SearchSpace, block: int) -> None:
        self.network = network
        self.space = space
        self._block = block
        self._variable = space.variable_of()
        self._prices: dict[Kernel, float] = {}
        self._sizes = space.sizes
        self._parts = [self._step_part(s) for s in network.steps]
        self._parts += [self._link_part(e) for e in network.links]
        self._families = families_of(pair for part in self._parts for pair in _members(part))

    def wanted(self) -> list[Kernel]:
        """The kernels whose measured rows price the whole space."""
        chosen = [k for family in self._families.values() for k in select(family, self._block)]
        return list(dict.fromkeys(chosen))

    def load(self, lookup: Lookup) -> None:
        """Takes the rows over. Raises ValueError if a family has no row at all."""
        self._prices = {}
        for family in self._families.values():
            self._prices |= price_family(family, lookup, self._block)

    def factors(self, calibration: Calibration) -> tuple[LatencyFactor, ...]:
        """The latency of the network as factors over the space's variables, calibrated."""
        tables = [self._factor(part, calibration) for part in self._parts]
        return tuple(f for f in tables if np.any(f.table))

    def kernels(self, c: Configuration) -> list[Kernel]:
        """What runs for configuration `c`."""
        return self.network.kernels(c.widths, c.dropped, c.kernels)

    def latency_ns(self, c: Configuration, calibration: Calibration) -> float:
        """Predicted latency of a configuration of the space."""
        return self._sum(self.kernels(c), calibration)

    def layer_ns(self, c: Configuration, calibration: Calibration) -> dict[str, float]:
        """Predicted nanoseconds per step, its boundaries counted to the tensor's producer."""
        found: dict[str, float] = {}
        for step in self.network.steps:
            kernels = self.network.step_kernels(step, c.widths, c.dropped, c.kernels)
            found[step.node] = self._sum(kernels, calibration)
        for link in self.network.links:
            kernels = self.network.link_kernels(link, c.widths, c.dropped, c.kernels)
            name = link.producer or link.consumers[0]
            found[name] = found.get(name, 0.0) + self._sum(kernels, calibration)
        return found

    def _sum(self, kernels: Sequence[Kernel], calibration: Calibration) -> float:
        extra = calibration.per_kernel_ns
        return calibration.factor * sum(
            max(0.0, self._prices[k] + extra.get(k.precision, 0.0)) for k in kernels
        )

    def _factor(self, part: _Part, calibration: Calibration) -> LatencyFactor:
        shape = [self._sizes[v] for v in part.widths]
        table = np.zeros([*shape, *(self._sizes[v] for v in part.forms)])
        for form, emitted in part.emitted.items():
            prices = np.array([self._sum(kernels, calibration) for kernels in emitted])
            at: tuple[Any, ...] = (..., *form)
            table[at] = prices[part.shape_of].reshape(shape)
        return LatencyFactor(part.name, (*part.widths, *part.forms), table)

    def _step_part(self, step: Step) -> _Part:
        network = self.network
        nodes = [step.node] + [n for n in (step.residual, self._fused_by(step.node)) if n]
        tensors = [*step.inputs, step.output]
        if step.residual:
            tensors.append(network.by_node[step.residual].output)
        return self._part(
            step.node, nodes, tensors, lambda w, d, k: network.step_kernels(step, w, d, k)
        )

    def _link_part(self, link: Link) -> _Part:
        nodes = [n for n in (link.producer, *link.consumers) if n]
        return self._part(
            link.tensor,
            nodes,
            [link.tensor],
            lambda w, d, k: self.network.link_kernels(link, w, d, k),
        )

    def _fused_by(self, node: str) -> str | None:
        return next((s.node for s in self.network.steps if s.residual == node), None)

    def _part(self, name: str, nodes: Sequence[str], tensors: Sequence[str], emit: _Emit) -> _Part:
        groups = groups_of(self.network.coupling, tensors)
        widths = [self._variable[g] for g in groups if g in self._variable]
        forms = [f"branch:{b}" for n in nodes for b in sorted(self.network.within[n])]
        forms += [f"kernel:{n}" for n in nodes if n in self.space.kernels]
        widths, forms = (
            [v for v in dict.fromkeys(found) if self._sizes[v] > 1] for found in (widths, forms)
        )
        distinct, shape_of = self._distinct_widths(widths, tensors)
        emitted: dict[_Form, tuple[tuple[Kernel, ...], ...]] = {}
        for form in product(*(range(self._sizes[v]) for v in forms)):
            dropped, kernels = self._form(dict(zip(forms, form, strict=True)))
            emitted[form] = tuple(tuple(emit(w, dropped, kernels)) for w in distinct)
        return _Part(name, tuple(widths), tuple(forms), shape_of, emitted)

    def _form(self, assignment: Mapping[str, int]) -> tuple[frozenset[str], dict[str, str]]:
        c = self.space.configuration(assignment)
        chosen = {v.removeprefix("kernel:") for v in assignment if v.startswith("kernel:")}
        return c.dropped, {n: k for n, k in c.kernels.items() if n in chosen}

    def _distinct_widths(
        self, variables: Sequence[str], tensors: Sequence[str]
    ) -> tuple[list[dict[str, int]], NDArray[np.int64]]:
        """Group widths for each distinct set of shapes (the full one last), and the map to them."""
        options = [self.space.widths[v.removeprefix("width:")] for v in variables]
        sizes = [len(o) for o in options]
        choices = np.indices(sizes).reshape(len(sizes), prod(sizes))
        lengths = [
            sum(
                r * prod(self._choice(g, variables, options, choices) for g in groups)
                for groups, r in axis.parts
            )
            for t in tensors
            for axis in self.network.coupling.shapes[t]
            if any(g in self._variable for g in axis.groups)
        ]
        rows = np.stack(np.broadcast_arrays(np.zeros(choices.shape[1]), *lengths), axis=1)
        _, first, inverse = np.unique(rows, axis=0, return_index=True, return_inverse=True)
        distinct = [
            {g: w for o, c in zip(options, choices[:, i], strict=True) for g, w in o[c].items()}
            for i in first
        ]
        return distinct, np.asarray(inverse, dtype=np.int64).reshape(-1)

    def _choice(
        self,
        group: str,
        variables: Sequence[str],
        options: Sequence[tuple[Mapping[str, int], ...]],
        choices: NDArray[np.int64],
    ) -> NDArray[np.int64] | int:
        variable = self._variable.get(group)
        if variable not in variables:
            return self.network.coupling.full[group]
        at = variables.index(variable)
        widths: NDArray[np.int64] = np.array([o[group] for o in options[at]])
        chosen: NDArray[np.int64] = widths[choices[at]]
        return chosen


def _members(part: _Part) -> list[tuple[str, Kernel]]:
    """(family, kernel): the family is the kernel at full width, in the same form."""
    found: dict[tuple[str, Kernel], None] = {}
    for emitted in part.emitted.values():
        widest = emitted[-1]  # lengths grow with widths, and distinct rows are sorted
        for kernels in emitted:
            found |= {(f.key(), k): None for f, k in zip(widest, kernels, strict=True)}
    return list(found)
