"""Turns a codec's dial until a file keeps all bounds."""

from dataclasses import dataclass

from hwprune.codec.rate import Dial, Packed, coarsest_within, finest_within
from hwprune.codec.skeleton import elements, holes
from hwprune.errors import InfeasibleError
from hwprune.progress import Progress, Stage
from hwprune.stages.pack_judge import Judge
from hwprune.stages.pack_subject import Subject
from hwprune.units import format_bytes

_DROP, _RATE = 0.3, 4.0  # where no bound is given: points if there are data, else bits


def fitted(what: Subject, dial: Dial, progress: Progress) -> Packed:
    """The best file within all bounds: the finest that is small enough, else the coarsest that is
    good enough.

    Raises InfeasibleError where there is none.
    """
    options = what.options
    most_drop, most_rate = options.max_drop, options.rate
    if (most_drop, most_rate, options.max_size) == (None, None, None):
        most_drop, most_rate = (_DROP, None) if what.known else (None, _RATE)
    if options.max_size is not None:
        most_rate = 8 * options.max_size / max(1, elements(holes(what.data)))
    if most_rate is not None:
        found = _sized(dial, most_rate, progress)
        if most_drop is not None:
            _check_drop(what, found, most_drop, progress)
        return found
    return _as_good(what, dial, most_drop or 0.0, progress)


def _sized(dial: Dial, most: float, progress: Progress) -> Packed:
    """The finest file of so many bits for each number. Raises InfeasibleError."""
    with progress.stage("fit") as stage:
        found, fitting = finest_within(_Watched(dial, stage), most)
    if not fitting:
        size = f"{format_bytes(len(found.file))}, {found.rate:.2f} bits a weight"
        raise InfeasibleError(
            f"the coarsest file that this codec can write has {size}",
            "allow as much, or prune the network first: hwprune compile --max-size",
        )
    return found


@dataclass(frozen=True)
class _Watched:
    """A dial that tells what files it has made."""

    dial: Dial
    stage: Stage

    def at(self, coarseness: float) -> Packed:
        """As the dial."""
        found = self.dial.at(coarseness)
        self.stage.update(0, f"{format_bytes(len(found.file))}, {found.rate:.2f} bits a weight")
        return found


def _as_good(what: Subject, dial: Dial, most: float, progress: Progress) -> Packed:
    """The coarsest file that loses no more. Raises InfeasibleError."""
    with progress.stage("fit") as stage:
        judge = Judge(what, lambda text: stage.update(0, text))

        def fits(found: Packed) -> bool:
            lost = judge.lost_points(found.model, most)
            stage.update(0, f"{format_bytes(len(found.file))}, {lost:.2f} points")
            return lost <= most

        found, fitting = coarsest_within(_Watched(dial, stage), fits)
    if not fitting:
        raise InfeasibleError(
            f"even the finest steps lose more than {most:g} points as far as "
            "these samples tell (two standard errors are added)",
            "give more data, or allow a larger --max-drop",
        )
    return found


def _check_drop(what: Subject, found: Packed, most: float, progress: Progress) -> None:
    with progress.stage("judge") as stage:
        lost = Judge(what, lambda text: stage.update(0, text)).lost_points(found.model)
    if lost > most:
        raise InfeasibleError(
            f"the best file of {format_bytes(len(found.file))} loses {lost:.2f} points, "
            f"--max-drop allows {most:g}",
            "allow a larger file or a larger drop",
        )
