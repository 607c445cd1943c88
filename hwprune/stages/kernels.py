"""Kernels by whole networks: the fastest where nothing needs to go, and what tables miss of them.

The decoder's tables see direct neighbours only, while a layout may follow from a layer further up:
one layer in fp32 can turn a whole stage of an int8 network to channels first.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import fsum

import numpy as np

from hwprune.latency.calibrate import Calibration
from hwprune.precision import FULL_BITS, INT8, blockwise
from hwprune.search.decode import Decoder
from hwprune.search.problem import Assignment, Factor, Problem, Variable
from hwprune.stages.profiling import Profile

_GAIN = 0.999  # a kernel is exchanged for one that brings more than rounding


def time_only(profile: Profile) -> Problem:
    """The search problem without any loss: what is reachable at all."""
    variables = tuple(Variable(name, size) for name, size in profile.space.sizes.items())
    factors = profile.estimator.factors(profile.calibration)
    return Problem(variables, tuple(Factor(f.scope, f.table) for f in factors), (), 0.0)


def fastest_kernels(profile: Profile) -> Mapping[str, str]:
    """Of the whole network, but for weights of few bits: nobody has measured what these lose."""
    problem = time_only(profile)
    whole = {v: s - 1 for v, s in profile.space.sizes.items() if not v.startswith("kernel:")}
    dear = 10 * fsum(float(f.table.max()) for f in problem.latency)
    refused = (
        Factor((f"kernel:{node}",), np.array([dear * _has_few_bits(k) for k in kernels]))
        for node, kernels in profile.space.kernels.items()
    )
    least = Problem(problem.variables, (), (*problem.latency, *refused), 0.0)
    found = Decoder(least).decode(1.0, fixed=whole).assignment
    return profile.configuration(_Exact(profile, profile.calibration).fastest(found)).kernels


def seen_whole(
    profile: Profile, calibration: Calibration, problem: Problem, near: Assignment
) -> Problem:
    """`problem` with latencies that are exact at `near`, once its kernels are the fastest for its
    widths, and exact or too careful wherever a single kernel differs from there.

    What the tables overrate is left at that: a layer asked for in fp32 that the runtime computes on
    integers anyhow would gain the difference again with every layer like it.
    """
    exact = _Exact(profile, calibration)
    base = exact.fastest(near)
    always = exact.ns(base) - problem.latency_ns(base)

    def missed(node: str) -> Factor:
        """Nanoseconds more than that, by the kernel of `node` where it is left."""
        name, options = f"kernel:{node}", range(len(profile.space.kernels[node]))
        others = [{**base, name: option} for option in options]
        found = np.array([max(0.0, exact.ns(o) - problem.latency_ns(o) - always) for o in others])
        within = sorted(profile.estimator.network.within[node])
        branches = [f"branch:{b}" for b in within if f"branch:{b}" in problem.sizes]
        left = np.zeros([2] * len(branches))
        left[(1,) * len(branches)] = 1.0
        return Factor((name, *branches), np.multiply.outer(found, left))

    latency = (*problem.latency, *map(missed, profile.space.kernels))
    return replace(problem, latency=latency, constant_ns=problem.constant_ns + always)


@dataclass(frozen=True, slots=True)
class _Exact:
    """Whole networks as they are foreseen, layouts and all."""

    profile: Profile
    calibration: Calibration

    def ns(self, assignment: Assignment) -> float:
        """What one takes."""
        c = self.profile.configuration(assignment)
        self.profile.learn(c)
        return self.profile.estimator.latency_ns(c, self.calibration)

    def fastest(self, near: Assignment) -> Assignment:
        """`near` with the fastest kernels that are found from its own and from integers everywhere:
        where two layers must change for either to be faster, no single one would.
        """
        kernels = self.profile.space.kernels.items()
        integers = {f"kernel:{n}": options.index(INT8) for n, options in kernels if INT8 in options}
        return min(map(self._gone_over, (near, {**near, **integers})), key=self.ns)

    def _gone_over(self, near: Assignment) -> Assignment:
        """`near` with kernels of which no single one could be faster."""
        best, improved = self.ns(near), True
        while improved:
            improved = False
            for name, option in self._offered():
                other = {**near, name: option}
                ns = best if other == near else self.ns(other)
                if ns < _GAIN * best:
                    near, best, improved = other, ns, True
        return near

    def _offered(self) -> Iterator[tuple[str, int]]:
        """Variables of kernels with each of their options."""
        for node, kernels in self.profile.space.kernels.items():
            for option, kernel in enumerate(kernels):
                if not _has_few_bits(kernel):
                    yield f"kernel:{node}", option


def _has_few_bits(kernel: str) -> bool:
    blocks = blockwise(kernel)
    return blocks is not None and blocks.bits < FULL_BITS
