"""Kernels whose places are foretold from those before them: neighbours are alike.

Linear prediction, as in audio codecs and PNG (DPCM): what is coded is the rest. Within one kernel
(one row, one column) a place is its rest, and what it takes from each place before it. All kernels
of a tensor share the coefficients.
"""

from math import isqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .ans import Integers
from .container import DecodeError
from .tables import numbers

ONE = 16  # what a coefficient of 1 is written as
MIDDLE = 39  # the small number that is written for a coefficient of 0
MOST_PLACES = 64


def coefficients(text: str) -> Integers:
    """In 16ths, places x places, lower triangular; written place by place. Raises DecodeError."""
    given = numbers(text) - MIDDLE
    places = (1 + isqrt(1 + 8 * len(given))) // 2
    if places * (places - 1) // 2 != len(given) or not 2 <= places <= MOST_PLACES:
        raise DecodeError(f"a kernel has {len(given)} coefficients")
    found = np.zeros((places, places), np.int64)
    found[np.tril_indices(places, -1)] = given
    return found


def restored(rest: NDArray[np.float32], foretold: Integers) -> NDArray[np.float32]:
    """Rows x columns x places, in single precision: a place's rest, plus coefficient / 16 x each
    place before it, from the first on, one operation after the other.
    """
    found = _by_place(rest, foretold)
    with np.errstate(all="ignore"):
        for place, taken in enumerate(foretold):
            for before in np.flatnonzero(taken):
                found[place] += np.float32(taken[before] / ONE) * found[before]
    return np.moveaxis(found, 0, 2)


def restored_integers(rest: NDArray[np.int32], foretold: Integers) -> NDArray[np.int32]:
    """Rows x columns x places: a place's rest, plus the sum of coefficients x the places before it,
    in 16ths, rounded (half up).
    """
    found = _by_place(rest, foretold)
    for place, taken in enumerate(foretold):
        total = np.full(found[place].shape, ONE // 2, np.int32)
        for before in np.flatnonzero(taken):
            total += np.int32(taken[before]) * found[before]
        found[place] += total >> np.int32(ONE.bit_length() - 1)
    return np.moveaxis(found, 0, 2)


def _by_place(rest: NDArray[Any], foretold: Integers) -> NDArray[Any]:
    """Places x rows x columns, a copy."""
    if rest.shape[2] != len(foretold):
        raise DecodeError(f"kernels of {rest.shape[2]} places are foretold for {len(foretold)}")
    return np.array(np.moveaxis(rest, 2, 0), order="C")
