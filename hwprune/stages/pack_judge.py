"""What files lose on data that no weight was rounded for."""

from collections.abc import Callable
from math import inf, sqrt

import numpy as np
from numpy.typing import NDArray

from hwprune.errors import UsageError
from hwprune.frontend.dataset import DataSet, balanced_order
from hwprune.network.run import is_classifier
from hwprune.stages.pack_dials import probed
from hwprune.stages.pack_subject import CALIBRATION, Subject
from hwprune.stages.quality import lost_answers

_JUDGED, _WORK = (4096, 16384), 4e12  # samples at most, of each of two sets; multiplications
_PORTION = 1024  # after which a file may turn out to be hopeless
_HOPELESS = 4.0  # standard errors by which it loses too much

Answers = NDArray[np.int64]


class Judge:
    """What files lose, in points of top-1 or of agreement.

    The data are those of the search, and what is left of the training data: the more there are, the
    less of a file's success is luck.
    """

    def __init__(self, subject: Subject, tell: Callable[[str], None] = lambda _text: None) -> None:
        """How the network itself answers; `tell` hears of each portion of samples.

        Raises UsageError where there is no such figure.
        """
        self._subject, self._tell = subject, tell
        train, seed = subject.splits.train, subject.options.seed
        most = _samples(subject)
        left = balanced_order(train, seed)[CALIBRATION:most]
        held_out = balanced_order(subject.splits.search, seed + 1)[:most]
        self._portions = [*_cut(subject.splits.search, held_out), *_cut(train, left)]
        self._before = [self._answers(subject.data, i) for i in range(len(self._portions))]

    def lost_points(self, model: bytes, most: float = inf) -> float:
        """Of a file; two standard errors are added: other data should not turn out worse.

        Where it is certain to lose more than `most`, not all samples are looked at.
        """
        lost = np.empty(0)
        for i, (data, before) in enumerate(zip(self._portions, self._before, strict=True)):
            own = lost_answers(before, self._answers(model, i), data.y)
            lost = np.concatenate([lost, own])
            if _points(lost, -_HOPELESS) > most:
                break
        return _points(lost, 2.0)

    def _answers(self, model: bytes, portion: int) -> Answers:
        done = sum(map(len, self._portions[:portion]))
        self._tell(f"{done} of {sum(map(len, self._portions))} samples")
        found = self._subject.outputs(model, self._portions[portion])
        if not is_classifier(found):
            raise UsageError(
                "--max-drop is in points of top-1, and this network is no classifier",
                "give --rate or --max-size instead",
            )
        answers: Answers = found[0].argmax(1).numpy()
        return answers


def _samples(subject: Subject) -> int:
    """The more, the less a sample takes: a bound of a third of a point needs many."""
    wanted = int(_WORK / max(1, probed(subject).multiplications))
    return min(max(wanted, _JUDGED[0]), _JUDGED[1])


def _cut(data: DataSet, order: NDArray[np.int64]) -> list[DataSet]:
    """Portions of samples in such an order."""
    starts = range(0, len(order), _PORTION)
    return [data.select(order[start : start + _PORTION]) for start in starts]


def _points(lost: NDArray[np.float64], errors: float) -> float:
    return float(100 * (lost.mean() + errors * lost.std() / sqrt(len(lost))))
