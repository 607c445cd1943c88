"""Latency of any configuration, as a sum of small tables over the variables of the search space.

Each step and each link of the kernel graph depends on a handful of variables only (its own kernel,
the widths of the groups it touches, the branches it sits in), so the latency of the whole network
is a sum of factors: exactly what the decoder needs.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, product
from math import prod, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwprune.backend import RUN, Kernel
from hwprune.latency.calibrate import Calibration, class_name
from hwprune.latency.families import Families
from hwprune.latency.family import Class
from hwprune.latency.kernels import KernelGraph, link_part, step_part
from hwprune.latency.response import ROW_NOISE
from hwprune.latency.space import SearchSpace, groups_of
from hwprune.latency.structure import Link, Step
from hwprune.latency.teeth import Teeth
from hwprune.latency.whole import LinkKey, StepKey
from hwprune.plan import Configuration

_Emit = Callable[[Mapping[str, int], frozenset[str], Mapping[str, str]], Sequence[Kernel]]
_Form = tuple[int, ...]  # options of the branch and kernel variables of a scope


@dataclass(frozen=True, slots=True)
class LatencyFactor:
    """Nanoseconds that one step or link adds: one axis of `table` per variable of `scope`."""

    name: str
    scope: tuple[str, ...]
    table: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """Predicted latency, nanoseconds, with its standard deviation."""

    ns: float
    deviation: float

    def interval(self, sigmas: float = 2.0) -> tuple[float, float]:
        """Lowest and highest nanoseconds, `sigmas` standard deviations away."""
        return max(0.0, self.ns - sigmas * self.deviation), self.ns + sigmas * self.deviation


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


@dataclass(frozen=True, slots=True)
class _Share:
    """What one part adds to a whole run, nanoseconds, and the deviation of each class in it."""

    ns: float
    deviations: tuple[tuple[str, float], ...]


@dataclass(slots=True)
class _Known:
    """What was worked out under a calibration: shares by key, kernels' time, class, deviation."""

    calibration: Calibration
    parts: dict[StepKey | LinkKey, _Share] = field(default_factory=dict)
    kernels: dict[Kernel, tuple[float, str, float]] = field(default_factory=dict)


class Estimator:
    """Prices kernels by the table's rows, and between them by their families.

    Create it, measure what `wanted()` names, then call `load`. Kernels of widths that the space
    does not offer are priced like any others, once their family is known; `beyond` are plans of
    which rows shall tell, too, though the space does not hold them.
    """

    def __init__(
        self, network: KernelGraph, space: SearchSpace, beyond: Iterable[Configuration] = ()
    ) -> None:
        self.network = network
        self.space = space
        self._variable = space.variable_of()
        self._prices: dict[Kernel, tuple[float, float]] = {}
        self._known = _Known(Calibration())
        self._rows: frozenset[Kernel] = frozenset()
        self._sizes = space.sizes
        self._parts = [self._step_part(s) for s in network.steps]
        self._parts += [self._link_part(e) for e in network.links]
        self.families = Families()
        outside = [network.by_part(c) for c in beyond]
        for part in self._parts:
            inside = (k for found in part.emitted.values() for ks in found for k in ks)
            more = (k for parts in outside for k in parts[part.name])
            self.families.add(part.name, chain(inside, more))

    def wanted(self, teeth: Mapping[Class, Teeth] | None = None) -> list[Kernel]:
        """The kernels whose measured rows price the whole space."""
        return list(dict.fromkeys([RUN, *self.families.wanted(teeth)]))

    def load(
        self, known: Mapping[Kernel, float], teeth: Mapping[Class, Teeth] | None = None
    ) -> None:
        """Takes the rows over. Raises ValueError if a family has no row at all."""
        self._rows = frozenset(known)
        self._prices = {RUN: (known[RUN], 0.0)}
        self._known = _Known(Calibration())
        self.families.load(known, teeth or {})
        for family in self.families:
            members = list(family.members)
            found = zip(members, *family.predict(members), strict=True)
            self._prices |= {k: (float(ns), float(spread)) for k, ns, spread in found}

    def add_rows(self, known: Mapping[Kernel, float]) -> None:
        """Takes rows of single kernels over, whatever their family."""
        self._prices |= {k: (ns, ROW_NOISE) for k, ns in known.items()}
        self._known = _Known(Calibration())

    def factors(self, calibration: Calibration) -> tuple[LatencyFactor, ...]:
        """The latency of the network as factors over the space's variables, calibrated."""
        tables = [self._factor(part, calibration) for part in self._parts]
        tables[0].table[...] += calibration.price(RUN, self._prices[RUN][0])
        return tuple(f for f in tables if np.any(f.table))

    def kernels(self, c: Configuration) -> list[Kernel]:
        """What runs for configuration `c`."""
        return self.network.kernels(c.widths, c.dropped, c.kernels)

    def priced(self, c: Configuration) -> list[tuple[Kernel, float]]:
        """What runs for `c`, with the nanoseconds of the rows. Raises KeyError: see `unknown`."""
        parts = self.network.by_part(c)
        return [(k, self._price(part, k)[0]) for part, found in parts.items() for k in found]

    def row_ns(self, kernel: Kernel) -> float:
        """Nanoseconds of a kernel of the space, as its row says or its family. Raises KeyError."""
        return self._prices[kernel][0]

    def unknown(self, c: Configuration) -> list[Kernel]:
        """Kernels of `c` unlike any that was measured."""
        parts = self.network.by_part(c).items()
        pairs = [(part, k) for part, found in parts for k in found if k not in self._prices]
        return [k for part, k in pairs if self.families.of(part, k) is None]

    def estimate(self, c: Configuration, calibration: Calibration) -> Estimate:
        """Predicted latency of any configuration of the network, in the space or not.

        Kernels of one class, whose prices come from the same teeth and rows, err alike.
        """
        run = calibration.price(RUN, self._prices[RUN][0])
        total, deviations = run, dict[str, float]()
        known = self._known_by(calibration)
        for key in self.network.keys(c):
            share = known.parts.get(key)
            if share is None:
                known.parts[key] = share = self._share(key, known)
            total += share.ns
            for name, deviation in share.deviations:
                deviations[name] = deviations.get(name, 0.0) + deviation
        uncertain = sum(d**2 for d in deviations.values())
        return Estimate(total, sqrt(uncertain + (total * calibration.spread) ** 2))

    def _known_by(self, calibration: Calibration) -> _Known:
        """What parts and kernels were found to add so far."""
        if self._known.calibration is not calibration:
            self._known = _Known(calibration)
        return self._known

    def _share(self, key: StepKey | LinkKey, known: _Known) -> _Share:
        part, total, deviations = self.network.part(key), 0.0, dict[str, float]()
        for kernel in self.network.run_by(key):
            if kernel not in known.kernels:
                found = self.priced_part(part, kernel, known.calibration)
                known.kernels[kernel] = found.ns, class_name(kernel), found.deviation
            ns, name, deviation = known.kernels[kernel]
            total += ns
            deviations[name] = deviations.get(name, 0.0) + deviation
        return _Share(total, tuple(deviations.items()))

    def priced_kernel(self, kernel: Kernel, calibration: Calibration) -> Estimate:
        """What one kernel adds to a whole run, by its row or its family. Raises KeyError."""
        ns, spread = self._prices[kernel]
        priced = calibration.price(kernel, ns)
        return Estimate(priced, priced * spread)

    def priced_part(self, part: str, kernel: Kernel, calibration: Calibration) -> Estimate:
        """The same of a kernel of any width that `part` may run."""
        self._price(part, kernel)
        return self.priced_kernel(kernel, calibration)

    def is_measured(self, kernel: Kernel) -> bool:
        """Whether the kernel has a row of its own."""
        return kernel in self._rows

    def period_of(self, part: str, kernel: Kernel, role: str) -> int:
        """The step of one count ("in", "out", "both"); 1 where every count has its price."""
        family = self.families.of(part, kernel)
        return family.periods().get(role, 1) if family else 1

    def steps_of(self, part: str, kernel: Kernel) -> str:
        """The counts that the hardware works in: "in 4, out 8"; those of 1 are left out."""
        family = self.families.of(part, kernel)
        found = family.periods() if family else {}
        return ", ".join(f"{role} {period}" for role, period in sorted(found.items()))

    def latency_ns(self, c: Configuration, calibration: Calibration) -> float:
        """Predicted latency of a configuration."""
        return self.estimate(c, calibration).ns

    def layer_ns(self, c: Configuration, calibration: Calibration) -> dict[str, float]:
        """Predicted nanoseconds per step, its boundaries counted to the tensor's producer."""
        parts = self.network.by_part(c)
        found = {s.node: self._sum(parts[step_part(s)], calibration) for s in self.network.steps}
        for link in self.network.links:
            name = link.producer or link.consumers[0]
            found[name] += self._sum(parts[link_part(link)], calibration)
        return found

    def _price(self, part: str, kernel: Kernel) -> tuple[float, float]:
        if kernel not in self._prices:
            family = self.families.of(part, kernel)
            if family is None:
                raise KeyError(kernel.key())
            ns, spread = family.predict([kernel])
            self._prices[kernel] = (float(ns[0]), float(spread[0]))
        return self._prices[kernel]

    def _sum(self, kernels: Sequence[Kernel], calibration: Calibration) -> float:
        return sum(self.priced_kernel(k, calibration).ns for k in kernels)

    def variances(self, calibration: Calibration) -> tuple[LatencyFactor, ...]:
        """Like `factors`: the variance of each, square nanoseconds."""

        def variance(kernels: Sequence[Kernel]) -> float:
            return sum(self.priced_kernel(k, calibration).deviation ** 2 for k in kernels)

        return tuple(self._table(part, variance) for part in self._parts)

    def _factor(self, part: _Part, calibration: Calibration) -> LatencyFactor:
        return self._table(part, lambda kernels: self._sum(kernels, calibration))

    def _table(self, part: _Part, price: Callable[[Sequence[Kernel]], float]) -> LatencyFactor:
        shape = [self._sizes[v] for v in part.widths]
        table = np.zeros([*shape, *(self._sizes[v] for v in part.forms)])
        for form, emitted in part.emitted.items():
            prices = np.array([price(kernels) for kernels in emitted])
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
            step_part(step), nodes, tensors, lambda w, d, k: network.step_kernels(step, w, d, k)
        )

    def _link_part(self, link: Link) -> _Part:
        nodes = [n for n in (link.producer, *link.consumers) if n]
        return self._part(
            link_part(link),
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
