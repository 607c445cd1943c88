"""Exact minimisation of a sum of small tables: bucket elimination (Dechter 1999).

The order and the shapes depend on the scopes only, so they are worked out once; each call then
runs the same few numpy operations on new numbers, for a whole batch of them at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Scope = tuple[int, ...]


class Layout:
    """Tables over the maximal scopes, end to end in one flat vector, each in C order.

    Args:
        scopes: variables (indices into `sizes`) of every table.
        sizes: options per variable.
    """

    def __init__(self, scopes: Sequence[Scope], sizes: Sequence[int]) -> None:
        self.sizes = tuple(sizes)
        self.scopes: list[Scope] = []
        self._home: dict[frozenset[int], int] = {}
        for scope in sorted(scopes, key=len, reverse=True):
            self._absorb(scope)
        self.strides = [strides([self.sizes[v] for v in s]) for s in self.scopes]
        entries = [prod(self.sizes[v] for v in s) for s in self.scopes]
        self.starts = np.cumsum([0, *entries], dtype=np.int64)[:-1]
        self.length = sum(entries)
        self._steps = np.zeros((len(self.sizes), len(self.scopes)))  # float: products through BLAS
        for t, scope in enumerate(self.scopes):
            self._steps[list(scope), t] = self.strides[t]

    def place(self, scope: Scope, table: Floats) -> tuple[Ints, Floats]:
        """Positions in the flat vector that a table over `scope` adds to, and what it adds."""
        home = self._home[frozenset(scope)]
        target = self.scopes[home]
        full = [self.sizes[v] for v in target]
        values = np.broadcast_to(self.aligned(scope, table, target), full).ravel()
        return self.starts[home] + np.arange(values.size), values

    def aligned(self, scope: Scope, table: Floats, target: Scope) -> Floats:
        """A table over `scope` with the axes of `target`, of length 1 for what it lacks."""
        axes = sorted(range(len(scope)), key=lambda i: target.index(scope[i]))
        shape = [self.sizes[v] if v in scope else 1 for v in target]
        return np.asarray(np.transpose(table, axes).reshape(shape), np.float64)

    def positions(self, options: Ints) -> Ints:
        """Where each table stands in the flat vector at each row of options (batch x tables)."""
        return np.asarray(options @ self._steps, np.int64) + self.starts

    def totals(self, flat: Floats, options: Ints) -> Floats:
        """Sum of the tables at each row of `options`."""
        return np.asarray(flat[self.positions(options)].sum(1), np.float64)

    def _absorb(self, scope: Scope) -> None:
        key = frozenset(scope)
        if key in self._home:
            return
        for i, other in enumerate(self.scopes):
            if key.issubset(other):
                self._home[key] = i
                return
        self._home[key] = len(self.scopes)
        self.scopes.append(scope)


@dataclass(frozen=True, slots=True)
class _View:
    """How a table of the flat vector enters a bucket's table."""

    where: slice
    shape: tuple[int, ...]  # as stored
    axes: tuple[int, ...]  # to the order of the bucket
    broadcast: tuple[int, ...]  # with axes of length 1 for what it lacks


@dataclass(frozen=True, slots=True)
class _Bucket:
    """What mentions `variable` when it is eliminated: tables and messages of earlier buckets.

    Its table has the axes (batch, *others, variable).
    """

    variable: int
    others: Scope
    strides: Ints
    tables: tuple[_View, ...]
    messages: tuple[tuple[int, tuple[int, ...]], ...]  # (bucket, its shape broadcast to ours)


class Elimination:
    """Minimiser for sums of tables over given scopes; `largest` is its largest table's size."""

    def __init__(self, scopes: Sequence[Scope], sizes: Sequence[int]) -> None:
        self._scopes, self._sizes = scopes, tuple(sizes)
        self._order, self.largest = elimination_order(scopes, sizes)
        self._rank = {v: i for i, v in enumerate(self._order)}

    def minimise(self, flat: Floats) -> Ints:
        """Options (batch x variables) that minimise each row of `flat` (batch x length)."""
        batch = len(flat)
        messages: list[Floats] = []
        choices: list[Ints] = []
        for bucket in self._buckets:
            total: Floats = np.zeros((batch, 1))
            parts = [
                flat[:, t.where]
                .reshape(batch, *t.shape)
                .transpose(t.axes)
                .reshape(batch, *t.broadcast)
                for t in bucket.tables
            ] + [messages[i].reshape(batch, *shape) for i, shape in bucket.messages]
            if parts:
                total = sum(parts[1:], start=parts[0])
            choices.append(total.argmin(-1).reshape(batch, -1))
            messages.append(total.min(-1))
        return self._backtrack(choices, batch)

    def _backtrack(self, choices: Sequence[Ints], batch: int) -> Ints:
        found = np.zeros((batch, len(self._sizes)), np.int64)
        rows = np.arange(batch)
        for bucket, best in zip(reversed(self._buckets), reversed(choices), strict=True):
            at = found[:, bucket.others] @ bucket.strides
            found[:, bucket.variable] = best[rows, at]
        return found

    @cached_property
    def _buckets(self) -> tuple[_Bucket, ...]:
        sizes = [prod(self._sizes[v] for v in s) for s in self._scopes]
        starts = [sum(sizes[:i]) for i in range(len(sizes))]
        tables: dict[int, list[int]] = {v: [] for v in self._order}
        for i, scope in enumerate(self._scopes):
            if scope:
                tables[min(scope, key=self._rank.__getitem__)].append(i)
        buckets: list[_Bucket] = []
        pending: dict[int, Scope] = {}  # bucket -> scope of its message
        for variable in self._order:
            incoming = {i: scope for i, scope in pending.items() if variable in scope}
            own = [self._scopes[i] for i in tables[variable]]
            # latest eliminated first: the bucket's own variable is then always the last axis, and
            # messages fit by reshaping alone
            scope = self._sorted({variable}.union(*own, *incoming.values()))
            views = [self._view(i, starts[i], sizes[i], scope) for i in tables[variable]]
            messages = [(i, self._shape(scope, s)) for i, s in incoming.items()]
            for i in incoming:
                del pending[i]
            others = scope[:-1]
            pending[len(buckets)] = others
            steps = np.array(strides([self._sizes[v] for v in others]), np.int64)
            buckets.append(_Bucket(variable, others, steps, tuple(views), tuple(messages)))
        return tuple(buckets)

    def _view(self, table: int, start: int, size: int, bucket: Scope) -> _View:
        scope = self._scopes[table]
        axes = [1 + scope.index(v) for v in self._sorted(set(scope))]
        shape = tuple(self._sizes[v] for v in scope)
        return _View(slice(start, start + size), shape, (0, *axes), self._shape(bucket, scope))

    def _shape(self, bucket: Scope, scope: Scope) -> tuple[int, ...]:
        return tuple(self._sizes[v] if v in scope else 1 for v in bucket)

    def _sorted(self, variables: set[int]) -> Scope:
        return tuple(sorted(variables, key=self._rank.__getitem__, reverse=True))


def elimination_order(scopes: Sequence[Scope], sizes: Sequence[int]) -> tuple[list[int], int]:
    """Greedy order by least table size, then least fill; and the size of the largest table."""
    neighbours = neighbours_of(scopes, len(sizes))
    order: list[int] = []
    largest = 1
    cost = {v: _cost(v, neighbours, sizes) for v in neighbours}
    while cost:
        v = min(cost, key=lambda u: (*cost[u], u))
        largest = max(largest, cost.pop(v)[0])
        order.append(v)
        around = eliminate(v, neighbours)
        touched = around.union(*(neighbours[u] for u in around))
        cost |= {u: _cost(u, neighbours, sizes) for u in touched}
    return order, largest


def neighbours_of(scopes: Sequence[Scope], variables: int) -> dict[int, set[int]]:
    """Which variables share a table with which."""
    found: dict[int, set[int]] = {v: set() for v in range(variables)}
    for scope in scopes:
        for v in scope:
            found[v].update(u for u in scope if u != v)
    return found


def eliminate(v: int, neighbours: dict[int, set[int]]) -> set[int]:
    """Removes `v` and joins its neighbours, which are returned."""
    around = neighbours.pop(v)
    for u in around:
        neighbours[u] |= around
        neighbours[u] -= {u, v}
    return around


def scatter_add(positions: Ints, values: Floats, length: int) -> Floats:
    """A vector with every value added at its position."""
    return np.asarray(np.bincount(positions, values, minlength=length), np.float64)


def strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Steps through a flat C-ordered table, in entries, per axis."""
    return tuple(prod(shape[i + 1 :]) for i in range(len(shape)))


def _cost(v: int, neighbours: Mapping[int, set[int]], sizes: Sequence[int]) -> tuple[int, int]:
    around = neighbours[v]
    fill = sum(len(around) - 1 - len(around & neighbours[u]) for u in around)
    return sizes[v] * prod(sizes[u] for u in around), fill
