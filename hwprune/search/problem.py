"""What search is about: variables with a few options, and latency and loss as sums of small tables.

Search knows numbers only: an assignment (variable -> option) has a latency and an estimated loss,
each the sum of factors over a handful of variables. What the options stand for is known elsewhere.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import fsum

import numpy as np
from numpy.typing import NDArray

Assignment = Mapping[str, int]  # variable -> index of its option


def key_of(assignment: Assignment) -> tuple[int, ...]:
    """The options: what tells assignments of one problem apart."""
    return tuple(assignment.values())


@dataclass(frozen=True, slots=True)
class Variable:
    """One choice. Names begin with 'width:', 'branch:', 'kernel:' or 'bits:'.

    Options of a width ascend (the last is the full width), as those of bits do (the last is what
    the kernel multiplies); a branch has 0 = dropped, 1 = kept; a kernel has 0 = fp32.
    `shares` are those of its channels that a width's options keep, evenly spaced where not told.
    """

    name: str
    size: int
    shares: tuple[float, ...] = ()

    def cut(self, option: int) -> float:
        """The share of its channels that a width's option removes, 0 to below 1."""
        return 1.0 - (self.shares[option] if self.shares else (option + 1) / self.size)

    @property
    def is_kernel(self) -> bool:
        """Whether it chooses a precision rather than what is kept."""
        return self.name.startswith("kernel:")

    @property
    def is_precision(self) -> bool:
        """Whether it chooses how what is kept is computed or stored."""
        return self.name.startswith(("kernel:", "bits:"))

    @property
    def neutral(self) -> int:
        """The option that changes nothing: full width, branch kept, fp32, all bits."""
        return 0 if self.is_kernel else self.size - 1


@dataclass(frozen=True, slots=True, eq=False)
class Factor:
    """A term of a sum: `table` has one axis per variable of `scope`.

    `knob` names the multiplier that scales the term, if any (loss only).
    """

    scope: tuple[str, ...]
    table: NDArray[np.float64]
    knob: str | None = None

    def at(self, assignment: Assignment) -> float:
        """The term's value."""
        return float(self.table[tuple(assignment[v] for v in self.scope)])

    def ignores(self, variable: str, assignment: Assignment) -> bool:
        """Whether the term is the same for all options of a variable of its scope."""
        at = tuple(slice(None) if v == variable else assignment[v] for v in self.scope)
        return bool(np.ptp(self.table[at]) == 0)


@dataclass(frozen=True, slots=True, eq=False)
class Bound:
    """`what` (the file, say) has the sum of `factors` and `constant` bytes, and at most `most`."""

    what: str
    factors: tuple[Factor, ...]
    constant: float
    most: float

    def of(self, assignment: Assignment) -> float:
        """Bytes of a whole assignment."""
        return fsum([self.constant, *(f.at(assignment) for f in self.factors)])

    def at_most(self, most: float) -> "Bound":
        """The same sum, bounded otherwise."""
        return replace(self, most=most)


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """Minimise the sum of `loss` where the sum of `latency` and `constant_ns` meets a budget, and
    all of `bounds` hold.

    Raises:
        ValueError: a factor names an unknown variable, has the wrong shape or is not finite.
    """

    variables: tuple[Variable, ...]
    latency: tuple[Factor, ...]
    loss: tuple[Factor, ...]
    constant_ns: float = 0.0
    bounds: tuple[Bound, ...] = ()

    def __post_init__(self) -> None:
        if len(self.sizes) != len(self.variables):
            raise ValueError("two variables have the same name")
        if any(v.size < 1 for v in self.variables):
            raise ValueError("a variable has no options")
        for factor in self.factors:
            self._check(factor)

    @property
    def factors(self) -> tuple[Factor, ...]:
        """Of all sums."""
        return (*self.latency, *self.loss, *(f for b in self.bounds for f in b.factors))

    @property
    def sizes(self) -> dict[str, int]:
        """Number of options per variable."""
        return {v.name: v.size for v in self.variables}

    @property
    def knobs(self) -> tuple[str, ...]:
        """Names of all multipliers, in the order of the loss factors."""
        return tuple(dict.fromkeys(f.knob for f in self.loss if f.knob is not None))

    def latency_ns(self, assignment: Assignment) -> float:
        """Predicted latency of a whole assignment, correctly rounded."""
        return fsum([self.constant_ns, *(f.at(assignment) for f in self.latency)])

    def keeps_bounds(self, assignment: Assignment) -> bool:
        """Whether all bounds hold; latency has a budget of its own."""
        return all(b.of(assignment) <= b.most for b in self.bounds)

    def estimated_loss(
        self, assignment: Assignment, multipliers: Mapping[str, float] | None = None
    ) -> float:
        """Estimated loss of a whole assignment; a knob's terms are scaled by 2 ** multiplier."""
        powers = {} if multipliers is None else multipliers
        return fsum(2.0 ** powers.get(f.knob or "", 0.0) * f.at(assignment) for f in self.loss)

    def settled(self, assignment: Assignment) -> dict[str, int]:
        """The same with the neutral option for every variable that nothing depends on any more.

        A width inside a branch that is dropped, say: assignments of one network become one.
        """
        found = dict(assignment)
        touching: dict[str, list[Factor]] = {v.name: [] for v in self.variables}
        for factor in self.factors:
            for name in factor.scope:
                touching[name].append(factor)
        for v in self.variables:
            if found[v.name] != v.neutral and all(
                f.ignores(v.name, found) for f in touching[v.name]
            ):
                found[v.name] = v.neutral
        return found

    def digest(self, of_latency: bool = True) -> str:
        """Identity of the numbers: two problems with one digest have the same solutions."""
        found = hashlib.sha256()
        for part in self._parts(of_latency):
            found.update(part)
        return found.hexdigest()[:16]

    def _parts(self, of_latency: bool) -> Iterator[bytes]:
        yield repr([(v.name, v.size) for v in self.variables]).encode()
        if of_latency:
            yield repr((self.constant_ns, [(b.constant, b.most) for b in self.bounds])).encode()
        for factor in self.factors if of_latency else self.loss:
            yield repr((factor.scope, factor.knob)).encode()
            yield np.ascontiguousarray(factor.table, dtype=np.float64).tobytes()

    def _check(self, factor: Factor) -> None:
        sizes = self.sizes
        if unknown := [v for v in factor.scope if v not in sizes]:
            raise ValueError(f"factor over {factor.scope}: unknown variables {unknown}")
        if len(set(factor.scope)) != len(factor.scope):
            raise ValueError(f"factor over {factor.scope}: a variable is named twice")
        expected = tuple(sizes[v] for v in factor.scope)
        if factor.table.shape != expected:
            raise ValueError(
                f"factor over {factor.scope}: table is {factor.table.shape}, not {expected}"
            )
        if not np.all(np.isfinite(factor.table)):
            raise ValueError(f"factor over {factor.scope}: not all values are finite")
