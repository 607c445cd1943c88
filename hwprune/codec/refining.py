"""What successive refinement does to magnitudes, apart from how it is written down.

Isik et al. 2022 (An Information-Theoretic Justification for Model Pruning, algorithm 2). U are
magnitudes of mean 1 / lambda, V = 0: where U is no less than q / lambda, with q = log(n / beta),
this threshold goes from U to V; once nobody is left, it falls. In the paper lambda follows the mean
at every hit, and the authors' code takes 0.9 of the threshold now and then. Here it is halved: what
halvings tell of an exponential magnitude are its binary digits, which are independent of one
another, so that no bit tells what was known before. Entropies of hits, over the bound
log2(1 / (lambda D)): 1.2 for halvings, 1.4 to 1.5 for 0.9 or for a threshold that follows the mean.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import log
from typing import Any

import numpy as np
from numpy.typing import NDArray

Magnitudes = NDArray[np.int32]
ONE = 1 << 16  # what the scale of a tensor is written as
MOST = (1 << 31) - 1
_BLOCK = 1 << 20
_BETA = 64.0  # hits that the first threshold is expected to have
_LEAST, _GREATEST = 2.0, 6.0  # of q


def normalised(
    values: NDArray[np.floating[Any]], scale: float | None = None
) -> tuple[Magnitudes, np.float32]:
    """Magnitudes in units of a 2^16th of a scale, rounded down, and that unit.

    The scale is their mean, if none is given. All are zero where it is too small for single
    precision.
    """
    sizes = np.abs(values, dtype=np.float64).reshape(-1)
    if scale is None:
        scale = float(sizes.mean()) if sizes.size else 0.0
    unit = np.float32(scale / ONE)
    if not unit > 0:
        return np.zeros(sizes.size, np.int32), np.float32(0)
    sizes /= unit
    return np.minimum(sizes, MOST).astype(np.int32), unit


def first_threshold(magnitudes: Magnitudes) -> int:
    """The paper's q / lambda, or the largest magnitude, if that is less; doubled until no magnitude
    is twice as large.
    """
    mean, largest = float(magnitudes.mean()), int(magnitudes.max())
    q = min(max(log(len(magnitudes) / _BETA), _LEAST), _GREATEST)
    found = max(min(round(q * mean), largest), 1)
    while 2 * found <= largest:
        found *= 2
    return found


@dataclass(frozen=True, slots=True)
class Walk:
    """All weights once: how many a threshold hits, and where, block by block, ascending.

    As blocks are gone through, the threshold is taken off the magnitudes.
    """

    threshold: int
    hits: int
    blocks: Iterator[Magnitudes]


def refinements(magnitudes: Magnitudes) -> Iterator[Walk]:
    """Every threshold that hits; `magnitudes` become what is lacking then.

    It ends when nothing is lacking.
    """
    threshold, blocks = first_threshold(magnitudes), range(0, len(magnitudes), _BLOCK)
    parts = [magnitudes[start : start + _BLOCK] for start in blocks]
    while True:
        hits = sum(int(np.count_nonzero(part >= threshold)) for part in parts)
        if hits:
            yield Walk(threshold, hits, _blocks(parts, threshold))
        if threshold == 1:
            return
        threshold = (threshold + 1) // 2


def _blocks(parts: Sequence[Magnitudes], threshold: int) -> Iterator[Magnitudes]:
    for i, part in enumerate(parts):
        hits = np.flatnonzero(part >= threshold)
        part[hits] -= np.int32(threshold)
        yield (hits + i * _BLOCK).astype(np.int32)
