"""The steps of the hardware, found by measuring: which channel counts are worth offering.

A count is wasteful if the next multiple of s costs no more. fp32 convolutions on CPUs run in blocks
of 8 or 16 output channels (17 costs what 32 costs); int8 kernels want multiples of 4.
"""

from collections.abc import Mapping
from dataclasses import dataclass

_CANDIDATES = (16, 8, 4, 2)
_TOLERANCE = 1.03
_SHARE = 0.8  # of the counts between steps that must gain nothing


@dataclass(frozen=True, slots=True)
class Steps:
    """Channel steps per precision; 1 where every count has its own price."""

    by_precision: Mapping[str, int]

    @property
    def fine(self) -> int:
        """The smallest useful step of any precision: what widths are offered in."""
        useful = [s for s in self.by_precision.values() if s > 1]
        return min(useful, default=1)

    @property
    def coarse(self) -> int:
        """The largest step: widths on it are good for every precision."""
        return max(self.by_precision.values(), default=1)

    @property
    def block(self) -> int:
        """The step of fp32."""
        return self.by_precision.get("fp32", 1)


def find_step(times: Mapping[int, float]) -> int:
    """The largest step s such that counts between its multiples gain nothing over the next one.

    Args:
        times: nanoseconds by channel count, for every count from 1 to some span.
    """
    for step in _CANDIDATES:
        between = [c for c in times if c % step and _ceil(c, step) in times]
        wasted = [c for c in between if times[_ceil(c, step)] <= times[c] * _TOLERANCE]
        if between and len(wasted) >= _SHARE * len(between) and _rises(times, step):
            return step
    return 1


def _rises(times: Mapping[int, float], step: int) -> bool:
    """Whether the price does go up from one multiple to the next (else nothing was learnt)."""
    ends = sorted(c for c in times if c % step == 0)
    return len(ends) > 1 and times[ends[-1]] > times[ends[0]] * _TOLERANCE


def _ceil(count: int, step: int) -> int:
    return -(-count // step) * step
