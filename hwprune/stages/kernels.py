"""The fastest kernels where nothing needs to go."""

from collections.abc import Iterator, Mapping
from math import fsum

import numpy as np

from hwprune.precision import FULL_BITS, blockwise
from hwprune.search.decode import Decoder
from hwprune.search.problem import Factor, Problem, Variable
from hwprune.stages.profiling import Profile

_GAIN = 0.999  # a kernel is exchanged for one that brings more than rounding


def time_only(profile: Profile) -> Problem:
    """The search problem without any loss: what is reachable at all."""
    variables = tuple(Variable(name, size) for name, size in profile.space.sizes.items())
    factors = profile.estimator.factors(profile.calibration)
    return Problem(variables, tuple(Factor(f.scope, f.table) for f in factors), (), 0.0)


def fastest_kernels(profile: Profile) -> Mapping[str, str]:
    """Of the whole network, but for weights of few bits: nobody has measured what these lose.

    The decoder's tables see direct neighbours only, while a layout may follow from a layer further
    up. What it finds is therefore gone over, layer by layer, with whole networks told exactly.
    """
    problem = time_only(profile)
    whole = {v: s - 1 for v, s in profile.space.sizes.items() if not v.startswith("kernel:")}
    dear = 10 * fsum(float(f.table.max()) for f in problem.latency)
    refused = (
        Factor((f"kernel:{node}",), np.array([dear * _has_few_bits(k) for k in kernels]))
        for node, kernels in profile.space.kernels.items()
    )
    least = Problem(problem.variables, (), (*problem.latency, *refused), 0.0)
    found = Decoder(least).decode(1.0, fixed=whole)
    return profile.configuration(_gone_over(profile, found.assignment)).kernels


def _gone_over(profile: Profile, assignment: Mapping[str, int]) -> Mapping[str, int]:
    """No other kernel of a single layer is faster."""
    best, improved = _exact_ns(profile, assignment), True
    while improved:
        improved = False
        for name, option in _offered(profile):
            other = {**assignment, name: option}
            ns = best if other == assignment else _exact_ns(profile, other)
            if ns < _GAIN * best:
                assignment, best, improved = other, ns, True
    return assignment


def _offered(profile: Profile) -> Iterator[tuple[str, int]]:
    """Variables of kernels with each of their options."""
    for node, kernels in profile.space.kernels.items():
        for option, kernel in enumerate(kernels):
            if not _has_few_bits(kernel):
                yield f"kernel:{node}", option


def _exact_ns(profile: Profile, assignment: Mapping[str, int]) -> float:
    c = profile.configuration(assignment)
    profile.learn(c)
    return profile.estimator.latency_ns(c, profile.calibration)


def _has_few_bits(kernel: str) -> bool:
    blocks = blockwise(kernel)
    return blocks is not None and blocks.bits < FULL_BITS
