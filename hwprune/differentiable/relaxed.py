"""Latency and sizes between the options of widths: what gradients can follow.

A keep ratio between two options counts as a mixture of both, so that every table becomes piecewise
linear in each ratio, and equals itself wherever all ratios are options.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hwprune.latency.space import SearchSpace
from hwprune.search.problem import Assignment, Factor, Problem

Shares = Mapping[str, NDArray[np.float64]]  # width variable -> share of each option, ascending


def shares_of(space: SearchSpace) -> dict[str, NDArray[np.float64]]:
    """Which share of its channels each option of a width variable keeps; the last is 1."""
    counts = {
        f"width:{n}": [sum(o.values()) for o in options] for n, options in space.widths.items()
    }
    return {name: np.array(found) / found[-1] for name, found in counts.items()}


@dataclass(frozen=True, slots=True)
class Relaxed:
    """Sums that must not grow beyond bounds, as functions of the keep ratios.

    Attributes:
        shares: of the options of each width variable; ratios come in this order.
        what: names of the sums, the latency first.
        constants: of each sum, what no ratio changes.
        tables: of each sum, tables over the variables (indices into `shares`) they depend on.
        most: bound of each sum, in its own unit.
    """

    shares: Shares
    what: tuple[str, ...]
    constants: tuple[float, ...]
    tables: tuple[Mapping[tuple[int, ...], Tensor], ...]
    most: tuple[float, ...]

    def used(self, ratios: Tensor) -> Tensor:
        """Share of each bound that is taken at `ratios` (one per variable): 1 is all of it."""
        zero = 0.0 * ratios.sum()  # sums that no ratio changes have a gradient, too
        weights = [_mixture(r, s) for r, s in zip(ratios, self.shares.values(), strict=True)]
        sums = [
            constant + sum((_contracted(t, at, weights) for at, t in tables.items()), zero)
            for constant, tables in zip(self.constants, self.tables, strict=True)
        ]
        return torch.stack(sums) / torch.tensor(self.most, dtype=torch.float64)


def relax(problem: Problem, budget_ns: float, shares: Shares, fixed: Assignment) -> Relaxed:
    """The latency and the bounds of a problem by the ratios of its widths.

    Args:
        problem: what is decided.
        budget_ns: bound on its latency.
        shares: of its width variables.
        fixed: options of all other variables; those of widths are not looked at.
    """
    names = {name: i for i, name in enumerate(shares)}
    sums = [("time", problem.latency, problem.constant_ns, budget_ns)]
    sums += [(b.what, b.factors, b.constant, b.most) for b in problem.bounds]
    parts = [_split(factors, names, fixed) for _, factors, _, _ in sums]
    constants = tuple(sum_[2] + part[0] for sum_, part in zip(sums, parts, strict=True))
    tables = tuple(part[1] for part in parts)
    return Relaxed(shares, tuple(s[0] for s in sums), constants, tables, tuple(s[3] for s in sums))


def _split(
    factors: Sequence[Factor], names: Mapping[str, int], fixed: Assignment
) -> tuple[float, dict[tuple[int, ...], Tensor]]:
    """What no ratio changes, and tables over ratios; those over the same ones are added up."""
    constant, tables = 0.0, dict[tuple[int, ...], NDArray[np.float64]]()
    for factor in factors:
        table = factor.table[tuple(slice(None) if v in names else fixed[v] for v in factor.scope)]
        scope = tuple(names[v] for v in factor.scope if v in names)
        table, at = np.transpose(table, np.argsort(scope)), tuple(sorted(scope))
        if not at or np.ptp(table) == 0:
            constant += float(table.flat[0])
        else:
            tables[at] = tables[at] + table if at in tables else table
    return constant, {at: torch.from_numpy(np.ascontiguousarray(t)) for at, t in tables.items()}


def _mixture(ratio: Tensor, shares: NDArray[np.float64]) -> Tensor:
    """Convex weights of the two options around a ratio; below the narrowest it is that one."""
    if len(shares) == 1:
        return torch.ones(1, dtype=torch.float64)
    upper = int(np.clip(np.searchsorted(shares, float(ratio.detach())), 1, len(shares) - 1))
    low, high = shares[upper - 1], shares[upper]
    part = ((ratio.double() - low) / (high - low)).clamp(0, 1)
    weights = torch.zeros(len(shares), dtype=torch.float64)
    around = torch.tensor([upper - 1, upper])
    return weights.index_put((around,), torch.stack([1 - part, part]))


def _contracted(table: Tensor, at: Sequence[int], weights: Sequence[Tensor]) -> Tensor:
    for variable in reversed(at):
        table = table @ weights[variable]
    return table
