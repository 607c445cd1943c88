"""Which pattern a sweep over channel counts, all else equal, speaks for."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from hwprune.latency.patterns import Shape, finer, others, staircases
from hwprune.latency.teeth import Array, Teeth

_SHORTEST, _STRETCH = 4, 16  # counts that are left out together: where halves are, and in turn
_SIGMAS, _NOISE = 2.0, 0.005  # by which the error must be less for a pattern to be believed

_LeftOut = Callable[[Array, Array, Shape], Array | None]


def fit_teeth(times: Mapping[int, float]) -> Teeth:
    """The pattern behind a sweep: nanoseconds by channel count, all else equal.

    The simplest one that no other tells the times of a stretch left out clearly better than.
    """
    counts = np.array(sorted(times), float)
    ns = np.array([times[int(c)] for c in counts])
    even = _best(counts, ns, staircases(), _halves)
    best = _best(counts, ns, (even, *others()), _halves)
    rough = dict.fromkeys((even, best))
    tried = [shape for one in rough for shape in (one, *finer(one, counts, ns))]
    return _best(counts, ns, tried, _stretches).fit(counts, ns)[0]


def _best(counts: Array, ns: Array, tried: Sequence[Shape], left_out: _LeftOut) -> Shape:
    """The first one that none behind it is clearly better than."""
    best, errors = tried[0], left_out(counts, ns, tried[0])
    for shape in tried[1:]:
        found = left_out(counts, ns, shape)
        if found is not None and (errors is None or _clearly_less(found, errors)):
            best, errors = shape, found
    return best


def _clearly_less(errors: Array, usual: Array) -> bool:
    """Of errors at the same counts (nan: not told): by a few standard errors of the difference."""
    gain = (usual - errors)[~np.isnan(usual - errors)]
    if not len(gain):
        return False
    return bool(np.mean(gain) > _SIGMAS * np.std(gain) / np.sqrt(len(gain)) + _NOISE)


def _halves(counts: Array, ns: Array, tried: Shape) -> Array | None:
    """Relative errors of what every other period of the sweep says about the rest, nan where it
    says nothing; None if it is too short to be halved.
    """
    shape = tried.teeth
    odd = counts // max(shape.period, _SHORTEST) % 2 == 1
    errors: Array = np.full(len(counts), np.nan)
    for kept in (odd, ~odd):
        if not _tells(shape, counts[kept]):
            return None
        _, guess = tried.fit(counts[kept], ns[kept])
        told = ~kept & np.isin(counts % shape.period, counts[kept] % shape.period)
        errors[told] = np.minimum(np.abs(guess(counts) / ns - 1), 1.0)[told]
    return errors


def _stretches(counts: Array, ns: Array, tried: Shape) -> Array | None:
    """Relative errors of what the sweep says about every stretch of it without that stretch."""
    stretches = (counts - 1) // _STRETCH
    errors: Array = np.full(len(counts), np.nan)
    for stretch in np.unique(stretches):
        kept = stretches != stretch
        if not _tells(tried.teeth, counts[kept]):
            return None
        _, guess = tried.fit(counts[kept], ns[kept])
        errors[~kept] = np.minimum(np.abs(guess(counts[~kept]) / ns[~kept] - 1), 1.0)
    return errors


def _tells(shape: Teeth, counts: Array) -> bool:
    """Whether `counts` suffice for the figures of a pattern."""
    off = shape.slow(counts)
    leaps = 1 < shape.stair < shape.period
    on = ~off if leaps else counts % shape.period == 0
    return bool(on.sum() > 1 and (shape.step == 1 or off.sum() > 1))
