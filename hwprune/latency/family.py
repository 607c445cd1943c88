"""One layer's kernel at every width, in one form: members differ in a few channel counts only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np
from numpy.typing import NDArray

from hwprune.backend import Kernel
from hwprune.latency.response import ROW_NOISE, Response, fit
from hwprune.latency.teeth import Path, Teeth

_POINTS = {1: 8, 2: 4, 3: 3}  # measured values per varying count, by how many vary
_ENOUGH = 4  # rows on a path of its own for its response not to be told from the others
_HEIGHTS = (0.0, 0.25, 0.4, 0.55, 0.7, 0.85, 1.2, 1.4, 1.7, 2.0, 2.5, 3.0)  # tried, times a sweep's
_SUITS = 0.7  # of the square deviation of a sweep's own, for another height to be believed

Array = NDArray[np.float64]
Paths = NDArray[np.int64]
# op, precision, layout, kind, "in" | "out" | "both": what shares one pattern of teeth
Class = tuple[str, str, str, str, str]


@dataclass(frozen=True, slots=True)
class Signature:
    """What all members have in common; `columns` are the places of the counts that vary."""

    op: str
    precision: str
    fused: tuple[str, ...]
    attributes: tuple[tuple[str, str], ...]
    fixed: tuple[int, ...]  # sizes, -1 where they vary
    columns: tuple[int, ...]


class Family:
    """Members at every width that was asked for, and what is known about their time."""

    def __init__(self, signature: Signature, classes: Sequence[Class]) -> None:
        self.signature = signature
        self.classes = tuple(classes)  # of each varying count
        self.members: dict[Kernel, None] = {}
        self._teeth = [Teeth() for _ in classes]
        self._responses: dict[Path | None, Response] = {}  # of each path; None: of all together
        self._known: dict[Kernel, float] = {}

    def counts(self, kernels: Sequence[Kernel]) -> Array:
        """`kernels x counts`: the channel counts that vary."""
        rows = np.array([sizes(k) for k in kernels], float)
        return rows[:, list(self.signature.columns)]

    def select(self, teeth: Mapping[Class, Teeth] | None = None) -> list[Kernel]:
        """The members to measure: a coarse grid of their counts that has the extremes, and a
        coarser one of those between the steps.
        """
        members = list(self.members)
        counts = self.counts(members)
        if counts.shape[1] == 0:
            return members[:1]
        known = [_believed(c, teeth or {}) for c in self.classes]
        off = [t.apart(counts[:, c]) for c, t in enumerate(known)]
        few = _paths(known, counts).max(axis=0) == Path.FEW
        most = _POINTS.get(counts.shape[1], 2)
        chosen = _grid(counts, ~np.any(off, axis=0), most)
        for some in (*off, few):
            chosen |= _grid(counts, some, most - 1)
        return [k for k, wanted in zip(members, chosen, strict=True) if wanted]

    def load(self, known: Mapping[Kernel, float], teeth: Mapping[Class, Teeth]) -> None:
        """Takes measured rows over. Raises ValueError if there are none."""
        self._known = {k: known[k] for k in self.members if k in known}
        if not self._known:
            example = next(iter(self.members))
            raise ValueError(f"no member of the family of {example.key()} was measured")
        self._teeth = [_believed(c, teeth) for c in self.classes]
        for column in range(len(self._teeth)):
            self._suit(column)
        self._responses = self._fitted()

    def _suit(self, column: int) -> None:
        """Makes the teeth of a count as high as the rows say: what a rest costs need not grow with
        the other counts, and the sweep that tells the teeth has others.
        """
        given = self._teeth[column]
        tried = dict.fromkeys([given, *(given.scaled(height) for height in _HEIGHTS)])
        misfits = {teeth: self._misfit(column, teeth) for teeth in tried}
        best = min(tried, key=lambda teeth: misfits[teeth])
        self._teeth[column] = best if misfits[best] < _SUITS * misfits[given] else given

    def _misfit(self, column: int, teeth: Teeth) -> float:
        """Square deviation of the rows from the responses fitted to them with `teeth`."""
        self._teeth[column] = teeth
        return sum(r.sigma**2 * len(r.at) for r in self._fitted().values())

    def _fitted(self) -> dict[Path | None, Response]:
        """The response of every path that has the rows for it, and of all rows where some are of
        none of these.
        """
        counts, path, slowdown = self._worked(list(self._known))
        ns = np.array(list(self._known.values()))
        own = [p for p in Path if np.sum(path == p) >= _ENOUGH]
        found: dict[Path | None, Response] = {p: fit(counts[path == p], ns[path == p]) for p in own}
        if Path.FAST not in own or not np.isin(path, own).all():
            found[None] = fit(counts, ns / slowdown)
        return found

    def predict(self, kernels: Sequence[Kernel]) -> tuple[Array, Array]:
        """Nanoseconds and relative standard deviation; measured members are as measured."""
        if not self._responses:
            raise ValueError("nothing was loaded yet")
        counts, path, slowdown = self._worked(kernels)
        ns, spread = np.zeros(len(counts)), np.zeros(len(counts))
        others = self._responses.get(None) or self._responses[Path.FAST]
        for taken in map(Path, np.unique(path)):
            at, own = path == taken, self._responses.get(taken)
            told, spread[at] = (own or others).predict(counts[at])
            ns[at] = told if own else told * slowdown[at]
        exact = np.array([self._known.get(k, np.nan) for k in kernels])
        return np.where(np.isnan(exact), ns, exact), np.where(np.isnan(exact), spread, ROW_NOISE)

    def periods(self) -> dict[str, int]:
        """Role of a varying count -> the counts that the hardware works in, where it does."""
        pairs = zip(self.classes, self._teeth, strict=True)
        return {c[-1]: teeth.grain for c, teeth in pairs if teeth.grain > 1}

    def _worked(self, kernels: Sequence[Kernel]) -> tuple[Array, Paths, Array]:
        """Counts as the hardware works on them, the path taken, and about how much longer it is.

        Two counts that are off their steps do not slow a kernel down twice.
        """
        counts = self.counts(kernels)
        paths = _paths(self._teeth, counts)
        path, slowdown = paths.max(axis=0, initial=Path.FAST), np.ones(len(counts))
        for c, teeth in enumerate(self._teeth):
            longer = np.where(paths[c] != Path.FAST, teeth.slowdown, 1.0)
            slowdown = np.maximum(slowdown, longer)
            counts[:, c] = teeth.effective(counts[:, c], path != Path.FAST)
        return counts, path, slowdown


def sizes(kernel: Kernel) -> tuple[int, ...]:
    """All sizes in all shapes, one after the other."""
    return tuple(n for shape in (*kernel.inputs, kernel.output) for n in shape)


def class_of(kernel: Kernel, role: str) -> Class:
    """What a kernel shares its pattern of teeth with, in the count of this role."""
    layout = dict(kernel.attributes).get("layout", "")
    kind = ""
    if kernel.op == "Conv":
        channels, per_group = kernel.inputs[0][1], kernel.inputs[1][1]
        window = prod(kernel.inputs[1][2:])
        kind = "pointwise" if window == 1 else "dense"
        kind = kind if per_group == channels else "depthwise" if per_group == 1 else "grouped"
    return kernel.op, kernel.precision, layout, kind, role


def _paths(teeth: Sequence[Teeth], counts: Array) -> Paths:
    """`counts x kernels`: the path that each count alone asks for; the slowest of them is taken."""
    found = [t.paths(counts[:, c]) for c, t in enumerate(teeth)]
    return np.array(found, np.int64).reshape(len(teeth), len(counts))


def _believed(name: Class, teeth: Mapping[Class, Teeth]) -> Teeth:
    """The teeth of a class. Pointwise convolutions do too little of many networks' work for a sweep
    of their own: without one they are taken to have those of other dense ones.
    """
    op, precision, layout, kind, role = name
    like = (op, precision, layout, "dense" if kind == "pointwise" else kind, role)
    return teeth.get(name) or teeth.get(like) or Teeth()


def _grid(counts: Array, among: NDArray[np.bool_], most: int) -> NDArray[np.bool_]:
    """Those of the members `among` that are nearest, by ratio, to the points of a grid of `most`
    values per count: not every combination of counts need be there.
    """
    chosen = np.zeros_like(among)
    places = np.flatnonzero(among)
    if len(places):
        columns = np.maximum(counts[among], 0.5).T  # nothing at all has no ratio to anything
        grid = product(*(_spread(np.unique(column), most) for column in columns))
        distances = np.zeros((len(places), 1))
        for own, wanted in zip(columns, np.array(list(grid)).T, strict=True):
            distances = distances + np.abs(np.log(own[:, None] / wanted))
        chosen[places[np.argmin(distances, axis=0)]] = True
    return chosen


def _spread(values: Array, most: int) -> list[float]:
    """`most` of the values, spread evenly by ratio, with the extremes."""
    if len(values) <= most:
        return list(values.tolist())
    wanted = np.geomspace(values[0], values[-1], most)
    return sorted({float(values[np.argmin(np.abs(values - w))]) for w in wanted})
