"""What a codec makes of one tensor, before all tensors' parts are put into a file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwprune.codec.arrays import Symbols
from hwprune.codec.trellis import Chained


@dataclass(frozen=True, slots=True)
class Coded:
    """One tensor: how it is told (`hwprune.codec.decoder.forms`), and the parts that this takes.

    `pooled` and `verbatim` are bytes that are compressed together with other tensors', or not at
    all. `data` is what a decoder makes of it; None: what stands in the model.
    """

    entry: Mapping[str, Any]
    arrays: tuple[Symbols, ...] = field(default=())
    chained: tuple[Chained, ...] = ()
    pooled: bytes = b""
    verbatim: tuple[NDArray[np.uint8], ...] = ()
    data: bytes | None = None


def view(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """A shape as rows x columns x places; a vector has places only."""
    if len(shape) < 2:
        return 1, 1, prod(shape)
    return shape[0], shape[1], prod(shape[2:])
