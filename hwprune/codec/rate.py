"""One number decides how coarse a file is; here it is found that meets what was asked for."""

from collections.abc import Callable
from dataclasses import dataclass
from math import copysign, log
from typing import Protocol

from hwprune.codec.decoder import decode

_FINE = 2.0**-9  # of the dial: files nearer to one another are alike
_NEAR, _AIM = 0.995, 0.998  # of the rate that a file may have: what will do, and what is tried
_NEAREST = 0.05  # to a file that was tried, of what is left between two
_SLOPE, _START = 11.0, 0.9  # bits that all of the dial takes away, and where none would be left


@dataclass(frozen=True, slots=True)
class Packed:
    """A file, and how many numbers its tensors hold; `plain` if it is an ONNX file itself."""

    file: bytes
    elements: int
    plain: bool = False

    @property
    def model(self) -> bytes:
        """The model that a decoder makes of it."""
        return self.file if self.plain else decode(self.file).model

    @property
    def rate(self) -> float:
        """Bits of the whole file for each number of the model."""
        return 8 * len(self.file) / max(1, self.elements)


class Dial(Protocol):
    """A codec set up for a model: how coarse it codes is one number from 0, the finest, to 1."""

    def at(self, coarseness: float) -> Packed:
        """The file that results."""
        ...


Point = tuple[float, float]  # coarseness and rate


def finest_within(dial: Dial, rate: float) -> tuple[Packed, bool]:
    """The finest file whose rate is no higher; half a percent less will do.

    Returns:
        The file and True, or the coarsest file and False where not even that fits.
    """
    tried = _Tried(rate)
    best, way = None, min(max(_START - rate / _SLOPE, 0.0), 1.0)
    while best is None or not tried.settled:
        found = dial.at(way)
        if found.rate <= rate:
            best = found
        elif way == 1:
            return found, False
        tried.add((way, found.rate))
        way = tried.next_way()
    return best, True


class _Tried:
    """Where the dial was, and which rates were found."""

    def __init__(self, rate: float) -> None:
        self._most, self._room = rate, 1.0
        self._points: list[Point] = []
        self._high: Point | None = None  # the coarsest whose rate is too high
        self._fitting: Point | None = None  # the finest that fits

    def add(self, point: Point) -> None:
        """The next one; each is between these two."""
        self._points.append(point)
        if point[1] <= self._most:
            self._fitting = point
        else:
            self._high = point

    @property
    def settled(self) -> bool:
        """Whether no file is much better than that which fits."""
        if self._fitting is None:
            return False
        way, rate = self._fitting
        least = self._high[0] + _FINE if self._high else 0.0
        return way <= least or rate >= _NEAR * self._most

    def next_way(self) -> float:
        """Where to try."""
        if self._high is None or self._fitting is None:
            return self._beyond()
        return self._between(self._high, self._fitting)

    def _beyond(self) -> float:
        """On a straight line through the last two; the first time its slope is a usual one."""
        (way, rate), slope = self._points[-1], -_SLOPE
        if len(self._points) > 1 and self._points[-2][1] != rate:
            slope = (rate - self._points[-2][1]) / (way - self._points[-2][0])
        step = abs((_AIM * self._most - rate) / slope)
        least = _FINE * 2.0 ** len(self._points)  # so that the other side is reached
        return min(max(way + copysign(max(step, least), rate - self._most), 0.0), 1.0)

    def _between(self, high: Point, fitting: Point) -> float:
        """By the logarithm of rates; half way, if the last step has not halved what is left."""
        before, self._room = self._room, fitting[0] - high[0]
        share = log(high[1] / (_AIM * self._most)) / log(high[1] / fitting[1])
        if self._room > before / 2:
            share = 0.5
        return high[0] + min(max(share, _NEAREST), 1 - _NEAREST) * self._room


def coarsest_within(dial: Dial, fits: Callable[[Packed], bool]) -> tuple[Packed, bool]:
    """The coarsest file that fits a bound which finer files fit better (what is lost).

    Returns:
        It and True, or the finest file and False where not even that fits.
    """
    best, low, high = None, 0.0, 1.0
    while high - low > 2 * _FINE:  # what is lost is not known so exactly
        middle = (low + high) / 2
        found = dial.at(middle)
        if fits(found):
            best, low = found, middle
        else:
            high = middle
    if best is None:
        best = dial.at(0.0)
        return best, fits(best)
    return best, True
