"""What is allotted to layers under a budget, and the legal widths nearest to trained ratios."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hwprune.differentiable.relaxed import Relaxed, relax, shares_of
from hwprune.errors import InfeasibleError
from hwprune.graph.channels import Branch, Coupling, Widths
from hwprune.latency.space import SearchSpace
from hwprune.search.decode import Decoded, Decoder
from hwprune.search.problem import Assignment, Factor, Problem
from hwprune.units import format_ns

_OTHERWISE = 100.0  # more than all that ratios miss: what was fixed stays where that is possible
_GONE = 1e-3  # of a branch that nothing is known of
_TIE = 1e-4  # of what is missing to the full width: the budget is there to be used


@dataclass(frozen=True, slots=True)
class Aim:
    """Ratio of each width variable, and the options of others, that would be best.

    Variables that are in neither may be anything.
    """

    ratios: Mapping[str, float]
    fixed: Assignment


@dataclass(frozen=True)
class Allocation:
    """Widths of `space` under a latency budget and the bounds of `problem`.

    `fixed` are the options of branches, kernels and bits meanwhile.
    """

    space: SearchSpace
    problem: Problem
    budget_ns: float
    fixed: Assignment

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """Width variable -> the groups that it sets; without those that have one option only."""
        options = self.space.widths.items()
        return {f"width:{name}": tuple(o[0]) for name, o in options if len(o) > 1}

    @cached_property
    def relaxed(self) -> Relaxed:
        """Time and bounds as functions of the ratios, in the order of `groups`."""
        shares = {n: s for n, s in shares_of(self.space).items() if n in self.groups}
        only = {n: 0 for n in shares_of(self.space) if n not in shares}
        return relax(self.problem, self.budget_ns, shares, {**self.fixed, **only})

    @property
    def least(self) -> Tensor:
        """Ratio of each variable below which nothing is offered."""
        shares = self.relaxed.shares.values()
        return torch.tensor([s[0] for s in shares], dtype=torch.float64)

    def dropped(self, coupling: Coupling) -> list[Branch]:
        """The branches that `fixed` takes out."""
        return [b for b in coupling.branches if self.fixed.get(f"branch:{b.name}", 1) == 0]

    def idle(self, coupling: Coupling) -> set[str]:
        """Variables that say nothing as long as the branches are out: these, and all inside."""
        branches = self.dropped(coupling)
        inside = {node for b in branches for node in b.nodes}
        found = {f"branch:{b.name}" for b in branches}
        found |= {f"{kind}:{node}" for kind in ("kernel", "bits") for node in inside}
        for name, groups in self.groups.items():
            parts = (coupling.group(g) for g in groups)
            if inside.issuperset(n for g in parts for n in (*g.producers, *g.consumers)):
                found.add(name)
        return found

    def aim(self, coupling: Coupling, ratios: Mapping[str, float]) -> Aim:
        """What later decodes come near to; where there is time again, a branch may come back."""
        idle = self.idle(coupling)
        return Aim(
            {v: ratio for v, ratio in ratios.items() if v not in idle},
            {v: option for v, option in self.fixed.items() if v not in idle},
        )

    def check(self) -> None:
        """Raises InfeasibleError where even the narrowest widths break a bound."""
        used = self.relaxed.used(self.least)
        worst = int(used.argmax())
        if used[worst] > 1:
            what = self.relaxed.what[worst]
            least = float(used[worst]) * self.relaxed.most[worst]
            told = format_ns(least) if worst == 0 else f"{least:.0f} bytes"
            raise InfeasibleError(f"{what} cannot be kept: the narrowest widths take {told}")

    def nearest(self, ratios: Mapping[str, float]) -> Decoded:
        """The assignment within all bounds that is nearest to the ratios (see `toward`).

        Raises InfeasibleError where nothing keeps the bounds.
        """
        aimed = toward(self.problem, self.space, Aim(ratios, self.fixed))
        return Decoder(aimed).decode(self.budget_ns)

    def widths(self, ratios: Mapping[str, float]) -> Widths:
        """Of the groups, in that assignment."""
        widths = self.space.configuration(self.nearest(ratios).assignment).widths
        return {g: widths[g] for names in self.groups.values() for g in names}


def toward(problem: Problem, space: SearchSpace, aim: Aim) -> Problem:
    """The same constraints, with what is missing to an aim, squared, as the loss.

    What is wider than its ratio costs nothing but time: rounding up uses what rounding down leaves.
    """
    shares = shares_of(space)
    loss = [Factor((n,), _missing(s, aim.ratios.get(n, 0.0))) for n, s in shares.items()]
    for v in problem.variables:
        if v.name in aim.fixed and v.name not in shares:
            away = np.full(v.size, _OTHERWISE)
            away[aim.fixed[v.name]] = 0.0
            loss.append(Factor((v.name,), away))
        elif v.name.startswith("branch:"):
            loss.append(Factor((v.name,), np.array([_GONE, 0.0])))
    return replace(problem, loss=tuple(loss))


def _missing(shares: NDArray[np.float64], ratio: float) -> NDArray[np.float64]:
    missing: NDArray[np.float64] = np.maximum(0.0, ratio - shares) ** 2
    return missing + _TIE * (1 - shares) ** 2
