"""Which samples can be believed: no gaps, and processes that had their cores and agree."""

from statistics import median

from hwprune.backend import Samples, Timed, gather
from hwprune.latency.measure import AGREED, CONTENDED, UNSTEADY

RETRIES = 3  # more processes for a row that is in doubt; then it is kept as it is
_GAP_NS = 10e9
_GAP_FACTOR = 100


def without_gaps(timed: Timed) -> Timed:
    """Without runs of 10 s more than a hundred times the median: the machine was suspended."""
    if not timed.runs_ns:
        return timed
    limit = _GAP_FACTOR * median(timed.runs_ns) + _GAP_NS
    return Timed(tuple(ns for ns in timed.runs_ns if ns <= limit), timed.cpu_share)


def undisturbed(samples: Samples) -> Samples:
    """The processes that had their cores."""
    pairs = zip(samples.runs_ns, samples.cpu_share, strict=True)
    return gather(Timed(r, s) for r, s in pairs if s >= CONTENDED)


def spread(samples: Samples) -> float:
    """How far the medians of the faster half of the processes (two at least) lie apart, relative.

    A neighbour slows processes down one by one; those it spared must agree.
    """
    medians = sorted(median(runs) for runs in samples.runs_ns)
    half = medians[: max(2, (len(medians) + 1) // 2)]
    return (half[-1] - half[0]) / half[0] if half else 0.0


def steady(samples: Samples) -> bool:
    """Whether some process had its cores, and those that had agree."""
    sound = undisturbed(samples)
    return bool(sound.runs_ns) and spread(sound) <= UNSTEADY


def complete(samples: Samples, processes: int, retries: int = RETRIES) -> bool:
    """Whether `processes` of them can be believed, or no more are worth trying."""
    if len(samples.runs_ns) >= processes + retries:
        return True
    sound = undisturbed(samples)
    return len(sound.runs_ns) >= processes and spread(sound) <= AGREED
