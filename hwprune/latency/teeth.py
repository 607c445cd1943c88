"""What channel counts between the steps of the hardware cost.

Kernels work on blocks of channels, and what is left over costs as much as a whole block (a
staircase) or goes through code of its own (teeth, higher than the block they fill). Within one
period that hardly depends on how many whole periods come before, so with r = c % period

    time(c) = intercept + slope * (c - r + height[r])

The stairs of a period need not be equally high: a kernel that works on four blocks at a time leaps
where the next four begin. Some kernels have a fast path for multiples of a step alone, from some
least count on, a staircase with this or a longer period; all other counts take a slow path, a line
or teeth of its own.
"""

from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Path(IntEnum):
    """How a kernel gets through its channels; of two counts, the later one here tells."""

    FAST = 0
    FEW = 1  # on the step, but too few for the fast path
    OFF = 2  # off the step


@dataclass(frozen=True, slots=True)
class Teeth:
    """`heights[r]`: what r channels beyond a multiple of `period` cost, counted in channels.

    Stairs are `stair` channels wide (1: every rest has its own price). Counts off `step` or below
    `least` take slow paths, about `slowdown` times as long, with heights of its own.
    """

    period: int = 1
    heights: tuple[float, ...] = (0.0,)
    stair: int = 1
    step: int = 1
    least: int = 0
    slow_heights: tuple[float, ...] = (0.0,)
    slowdown: float = 1.0

    @property
    def grain(self) -> int:
        """Counts that the hardware works in: of a stair, or of a period of teeth."""
        return self.stair if self.stair > 1 else self.period

    def paths(self, counts: Array) -> NDArray[np.int64]:
        """The `Path` of each count, whatever the kernel's other counts are."""
        few = np.where(counts < self.least, Path.FEW, Path.FAST)
        return np.where(counts % self.step != 0, Path.OFF, few)

    def slow(self, counts: Array) -> Bools:
        """Which counts take the slow path."""
        found: Bools = self.paths(counts) != Path.FAST
        return found

    def apart(self, counts: Array) -> Bools:
        """Which counts are worth rows of their own: on a slow path, or on teeth that a sweep of
        another kernel tells only roughly.
        """
        found: Bools = self.slow(counts) if self.stair > 1 else counts % self.period != 0
        return found

    def scaled(self, by: float) -> "Teeth":
        """Teeth `by` times as high; stairs stay what they are."""
        heights = self.heights if self.stair > 1 else tuple(by * h for h in self.heights)
        return replace(self, heights=heights, slow_heights=tuple(by * h for h in self.slow_heights))

    def effective(self, counts: Array, slow: Bools) -> Array:
        """Channel counts as the hardware works on them, on the slow path where `slow`."""
        fast = raised(counts, self.heights)
        return np.where(slow & (self.step > 1), raised(counts, self.slow_heights), fast)


def raised(counts: Array, heights: tuple[float, ...]) -> Array:
    """Counts with what the last, not whole period of each costs, by `heights`."""
    rest = np.asarray(counts % len(heights), np.int64)
    found: Array = counts - rest + np.array(heights)[rest]
    return found
