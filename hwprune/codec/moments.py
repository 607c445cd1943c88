"""Second moments of what each weight is multiplied with: what an error in it does to the output."""

import numpy as np
from numpy.typing import NDArray

from hwprune.codec.probe import Probe
from hwprune.codec.products import input_rows, is_product, matrix
from hwprune.codec.weights import Values, Weight

Moment = NDArray[np.float32]  # groups x columns x columns
_ROWS = 32  # positions that are looked at for each column
_PORTION = 1 << 8  # rows that are multiplied at once


def moments(probe: Probe, seed: int = 0) -> dict[int, Moment]:
    """E[x x'] of the columns of each weight, by the index of its hole.

    Left out are weights whose product is not known.
    """
    wanted = [w for w in probe.weights if is_product(w)]
    sums = {w.index: _Sum(w) for w in wanted}
    rng = np.random.default_rng(seed)
    for tensors in probe.read(list(dict.fromkeys(w.data for w in wanted))):
        for weight in wanted:
            count = -(-_ROWS * sums[weight.index].columns // probe.batches)
            sums[weight.index].add(input_rows(weight, tensors[weight.data], count, rng))
    return {index: sums.pop(index).mean() for index in list(sums)}


class _Sum:
    """x x' over rows, added up when there are many: products of large matrices are cheaper."""

    def __init__(self, weight: Weight) -> None:
        groups, _, columns = matrix(weight, weight.values).shape
        self._total, self._seen = np.zeros((groups, columns, columns), np.float32), 0
        self._waiting: list[Values] = []

    @property
    def columns(self) -> int:
        """Of one group."""
        return self._total.shape[1]

    def add(self, rows: Values) -> None:
        """Groups x rows x columns."""
        self._waiting.append(rows)
        self._seen += rows.shape[1]
        if sum(waiting.shape[1] for waiting in self._waiting) >= _PORTION:
            self._flush()

    def mean(self) -> Moment:
        """Of all rows, once."""
        self._flush()
        self._total /= np.float32(max(1, self._seen))
        return self._total

    def _flush(self) -> None:
        if self._waiting:
            rows = np.concatenate(self._waiting, axis=1)
            for total, own in zip(self._total, rows, strict=True):
                total += own.T @ own
            self._waiting = []
