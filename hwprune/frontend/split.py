"""Which samples serve what: training, search and evaluation never share one."""

from dataclasses import dataclass

import numpy as np

from hwprune.errors import DataError
from hwprune.frontend.dataset import DataSet, balanced_order

_SEARCH_AT_MOST = 2000
_LEAST = 12  # samples to split; with fewer, a part would be empty or say nothing


@dataclass(frozen=True, slots=True)
class Splits:
    """Disjoint parts.

    Attributes:
        train: calibration, repair, training.
        search: chooses between candidates.
        eval: the final figure; nothing else sees it.
    """

    train: DataSet
    search: DataSet
    eval: DataSet


def split(
    data: DataSet | None,
    train_data: DataSet | None = None,
    eval_data: DataSet | None = None,
    seed: int = 0,
) -> Splits:
    """Divides what there is, classes balanced in every part.

    With two sources, eval is the second one whole, and search at most 2,000 samples and at most a
    quarter of the first. One source is divided 30 : 20 : 50, or as the source itself fixes it.

    Raises DataError when there is too little to divide.
    """
    train_source = train_data or data or eval_data
    eval_source = eval_data or data or train_data
    if train_source is None or eval_source is None:
        raise DataError("there is no data to split", "name some with --data")
    if train_source is not eval_source:
        _check_enough(train_source)
        count = min(_SEARCH_AT_MOST, len(train_source) // 4)
        search, train = _cut(train_source, (count,), seed)
        return Splits(train, search, eval_source)
    if train_source.parts is not None:
        ends = np.cumsum(train_source.parts)
        train, search, held_out = _slices(train_source, np.arange(len(train_source)), ends[:2])
        return Splits(train, search, held_out)
    _check_enough(train_source)
    n = len(train_source)
    train, search, held_out = _cut(train_source, (n * 3 // 10, n // 2), seed)
    return Splits(train, search, held_out)


def _check_enough(data: DataSet) -> None:
    if len(data) < _LEAST:
        raise DataError(
            f"{len(data)} samples are too few to split into training, search and evaluation",
            f"give at least {_LEAST}",
        )


def _cut(data: DataSet, ends: tuple[int, ...], seed: int) -> list[DataSet]:
    return _slices(data, balanced_order(data, seed), np.asarray(ends))


def _slices(data: DataSet, order: np.ndarray, ends: np.ndarray) -> list[DataSet]:
    return [data.select(part) for part in np.split(order, ends)]
