"""Kernel families of a network. Families that look the same are one, whichever layer or network
they come from, and share what was measured.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from hwprune.backend import Kernel
from hwprune.latency.family import Class, Family, Signature, class_of, sizes
from hwprune.latency.teeth import Teeth

_VARYING = ("group", "hidden_size")


class Families:
    """The families of one network, by the part of it they belong to."""

    def __init__(self) -> None:
        self._by_place: dict[tuple[object, ...], Family] = {}
        self._by_signature: dict[Signature, Family] = {}

    def __iter__(self) -> Iterator[Family]:
        return iter(self._by_signature.values())

    def add(self, part: str, kernels: Iterable[Kernel]) -> None:
        """Everything that one part of the network may run."""
        places: dict[tuple[object, ...], dict[Kernel, None]] = {}
        for kernel in kernels:
            places.setdefault(_place(part, kernel), {})[kernel] = None
        for place, members in places.items():
            signature = _signature(list(members))
            family = self._by_signature.get(signature)
            if family is None:
                family = Family(signature, _classes(next(iter(members)), signature.columns))
                self._by_signature[signature] = family
            family.members |= members
            self._by_place[place] = family

    def wanted(self, teeth: Mapping[Class, Teeth] | None = None) -> list[Kernel]:
        """What to measure before anything but the teeth is known."""
        return [k for family in self for k in family.select(teeth)]

    def load(self, known: Mapping[Kernel, float], teeth: Mapping[Class, Teeth]) -> None:
        """Takes measured rows over. Raises ValueError if a family has none at all."""
        for family in self:
            family.load(known, teeth)

    def doubtful(self, most: int) -> list[Kernel]:
        """Members whose prices are the least certain, in nanoseconds: what to measure next."""
        doubts: dict[Kernel, float] = {}
        for family in self:
            members = list(family.members)
            ns, spread = family.predict(members)
            order = np.argsort(-ns * spread)[: max(1, most // 8)]
            doubts |= {members[i]: float(ns[i] * spread[i]) for i in order}
        return sorted(doubts, key=lambda k: -doubts[k])[:most]

    def of(self, part: str, kernel: Kernel) -> Family | None:
        """The family of a kernel that `part` runs, if one like it was added."""
        return self._by_place.get(_place(part, kernel))


def _place(part: str, kernel: Kernel) -> tuple[object, ...]:
    layout = dict(kernel.attributes).get("layout")
    ranks = tuple(len(s) for s in kernel.inputs)
    return part, kernel.op, kernel.precision, kernel.fused, layout, ranks


def _signature(members: Sequence[Kernel]) -> Signature:
    rows = np.array([sizes(k) for k in members])
    varying = [c for c in range(rows.shape[1]) if len(np.unique(rows[:, c])) > 1]
    columns: list[int] = []
    for c in varying:
        if not any(np.array_equal(rows[:, c], rows[:, seen]) for seen in columns):
            columns.append(c)
    fixed = tuple(-1 if c in varying else int(rows[0, c]) for c in range(rows.shape[1]))
    common = set(members[0].attributes).intersection(*(k.attributes for k in members))
    attributes = tuple(sorted((n, v) for n, v in common if n not in _VARYING))
    first = members[0]
    return Signature(first.op, first.precision, first.fused, attributes, fixed, tuple(columns))


def _classes(kernel: Kernel, columns: Sequence[int]) -> list[Class]:
    return [class_of(kernel, _role(kernel, column)) for column in columns]


def _role(kernel: Kernel, column: int) -> str:
    """Whether the count at this place is what the kernel reads, writes or both."""
    if not kernel.inputs or not kernel.inputs[0]:
        return "both"
    at = 1 if len(kernel.inputs[0]) == 4 else len(kernel.inputs[0]) - 1
    if column != at:
        return "out"
    deep = kernel.op == "Conv" and kernel.inputs[1][1] == 1 < kernel.inputs[0][1]
    return "both" if deep or len(kernel.inputs) == 1 else "in"
