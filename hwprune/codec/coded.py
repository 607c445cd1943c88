"""What a codec makes of one tensor, before all tensors' parts are put into a file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

from hwprune.codec.arrays import Symbols
from hwprune.codec.trellis import Chained


@dataclass(frozen=True, slots=True)
class Coded:
    """One tensor: how it is told (`hwprune.codec.decoder.forms`), and the parts that this takes.

    `pooled` and `verbatim` are bytes that are compressed together with other tensors', or not at
    all.
    """

    entry: Mapping[str, Any]
    arrays: tuple[Symbols, ...] = field(default=())
    chained: tuple[Chained, ...] = ()
    pooled: bytes = b""
    verbatim: bytes = b""

    @property
    def last(self) -> bool:
        """Whether a decoder tells it after those that it depends on."""
        return "scale" in self.entry


def view(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """A shape as rows x columns x places; a vector has places only."""
    if len(shape) < 2:
        return 1, 1, prod(shape)
    return shape[0], shape[1], prod(shape[2:])
