"""What places of a kernel tell of those behind them (`hwprune.codec.decoder.prediction`)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwprune.codec.classes import loudness
from hwprune.codec.decoder.ans import Integers
from hwprune.codec.decoder.prediction import MIDDLE, MOST_PLACES, ONE
from hwprune.codec.decoder.tables import ORIGIN, TOP

_QUIET = 10.0  # errors: kernels below them tell little
_DAMPING = 1e-3  # of the mean power of a place
_TINY = 1e-30  # power of a place that is always zero
_COST = 8.0  # bits of a coefficient
_MOST_ZEROS = 0.2  # of the elements: where there are more, the rest would have none of them


def predictor(values: NDArray[Any], error: float = 0.0) -> Integers | None:
    """Coefficients for weights rows x columns x places; None where they are not worth their bits.

    By least squares, of kernels made equally loud, whose places are known but for a mean square
    `error`: the larger it is, the less is taken from them.
    """
    places = values.shape[2]
    if not 2 <= places <= MOST_PLACES or np.count_nonzero(values) < (1 - _MOST_ZEROS) * values.size:
        return None
    power, noise = _powers(values, error)
    found = np.zeros((places, places), np.int64)
    for p in range(1, places):
        known = power[:p, :p] + noise * np.eye(p)
        taken = np.linalg.solve(known, power[:p, p])
        found[p, :p] = np.clip(np.rint(ONE * taken), -MIDDLE, TOP - MIDDLE)
    taken, whole = found / ONE, np.eye(places) - found / ONE
    left = np.diag(whole @ power @ whole.T + noise * taken @ taken.T)
    gain = 0.5 * np.log2(np.maximum(np.diag(power), _TINY) / np.maximum(left, _TINY)).sum()
    return found if gain * (values.size // places) > _COST * places * (places - 1) / 2 else None


def _powers(values: NDArray[Any], error: float) -> tuple[NDArray[np.float64], float]:
    """Of the places, and of errors in one of them."""
    rows, columns, _ = (np.exp2(axis).astype(np.float32) for axis in loudness(values).axes)
    sizes = np.square(rows[:, None] * columns) + np.float32(_QUIET * error)
    alike = 1 / np.sqrt(sizes)
    kernels = (values * alike[:, :, None]).reshape(-1, values.shape[2])
    found: NDArray[np.float64] = (kernels.T @ kernels).astype(np.float64)
    damping = _DAMPING * float(np.diag(found).mean())
    return found, error * float(np.square(alike).sum()) + damping


def written(foretold: Integers) -> str:
    """As it stands in a file."""
    lower = foretold[np.tril_indices(len(foretold), -1)]
    return "".join(chr(ORIGIN + MIDDLE + int(c)) for c in lower)


def rest(values: NDArray[np.float32], foretold: Integers) -> NDArray[np.float32]:
    """What is left where the places before are known exactly."""
    whole = np.eye(len(foretold), dtype=np.float32) - (foretold / ONE).astype(np.float32)
    return values @ whole.T


def rest_of_integers(values: NDArray[np.int32], foretold: Integers) -> NDArray[np.int32]:
    """The counterpart of `restored_integers`."""
    shift, found = np.int32(ONE.bit_length() - 1), values.copy()
    for place, taken in enumerate(foretold):
        total = values[:, :, :place] @ taken[:place].astype(np.int32) + np.int32(ONE // 2)
        found[:, :, place] -= total >> shift
    return found
