"""One number decides how coarse a file is; here it is found that meets what was asked for."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from hwprune.codec.decoder import decode

_HALVINGS = 9


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


def finest_within(dial: Dial, fits: Callable[[Packed], bool]) -> tuple[Packed, bool]:
    """The finest file that fits a bound which coarser files fit better (its size, its rate).

    Returns:
        It and True, or the coarsest file and False where not even that fits.
    """
    return _farthest(lambda way: dial.at(1 - way), fits)


def coarsest_within(dial: Dial, fits: Callable[[Packed], bool]) -> tuple[Packed, bool]:
    """The coarsest file that fits a bound which finer files fit better (what is lost).

    Returns:
        It and True, or the finest file and False where not even that fits.
    """
    return _farthest(dial.at, fits)


def _farthest(at: Callable[[float], Packed], fits: Callable[[Packed], bool]) -> tuple[Packed, bool]:
    """The file farthest from where it fits best, 0, towards 1 that still fits."""
    best = at(0.0)
    if not fits(best):
        return best, False
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        found = at(middle)
        if fits(found):
            best, low = found, middle
        else:
            high = middle
    return best, True
