"""Which pattern a sweep over channel counts, all else equal, speaks for."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from hwprune.latency.patterns import Shape, finer, others, staircases
from hwprune.latency.teeth import Array, Bools, Teeth

_SHORTEST, _STRETCH = 4, 16  # counts that are left out together: where halves are, and in turn
_SIGMAS, _NOISE = 2.0, 0.005  # by which the error must be less for a pattern to be believed

# What is kept of a sweep, and what that is to tell of the rest, a few times over.
_Splits = Callable[[Array, Teeth], Iterator[tuple[Bools, Bools]]]


def fit_teeth(times: Mapping[int, float]) -> Teeth:
    """The pattern behind a sweep: nanoseconds by channel count, all else equal.

    The simplest one that no other tells the times of a stretch left out clearly better than.
    """
    counts = np.array(sorted(times), float)
    ns = np.array([times[int(c)] for c in counts])
    even = _best(counts, ns, staircases(), _halves)
    best = _best(counts, ns, (even, *others()), _halves)
    rough = dict.fromkeys((even, best))
    tried = dict.fromkeys(s for one in rough for s in (one, *finer(one, counts, ns)))
    return _best(counts, ns, tuple(tried), _stretches).fit(counts, ns)[0]


def _best(counts: Array, ns: Array, tried: Sequence[Shape], splits: _Splits) -> Shape:
    """The first one that none behind it is clearly better than."""
    best, errors = tried[0], _left_out(counts, ns, tried[0], splits)
    for shape in tried[1:]:
        found = _left_out(counts, ns, shape, splits)
        if found is not None and (errors is None or _clearly_less(found, errors)):
            best, errors = shape, found
    return best


def _clearly_less(errors: Array, usual: Array) -> bool:
    """Of errors at the same counts (nan: not told): by a few standard errors of the difference."""
    gain = (usual - errors)[~np.isnan(usual - errors)]
    if not len(gain):
        return False
    return bool(np.mean(gain) > _SIGMAS * np.std(gain) / np.sqrt(len(gain)) + _NOISE)


def _left_out(counts: Array, ns: Array, tried: Shape, splits: _Splits) -> Array | None:
    """Relative errors of what the parts that are kept of a sweep tell of others, nan where none
    tells anything; None if a part is too short to say.
    """
    errors: Array = np.full(len(counts), np.nan)
    for kept, told in splits(counts, tried.teeth):
        if not _tells(tried.teeth, counts[kept]):
            return None
        _, guess = tried.fit(counts[kept], ns[kept])
        errors[told] = np.minimum(np.abs(guess(counts[told]) / ns[told] - 1), 1.0)
    return errors


def _halves(counts: Array, shape: Teeth) -> Iterator[tuple[Bools, Bools]]:
    """Every other period, which tells those rests of the others that it has itself."""
    odd = counts // max(shape.period, _SHORTEST) % 2 == 1
    for kept in (odd, ~odd):
        yield kept, ~kept & np.isin(counts % shape.period, counts[kept] % shape.period)


def _stretches(counts: Array, shape: Teeth) -> Iterator[tuple[Bools, Bools]]:
    """All but one stretch, which that is to tell, each in turn."""
    stretches = (counts - 1) // _STRETCH
    for stretch in np.unique(stretches):
        yield stretches != stretch, stretches == stretch


def _tells(shape: Teeth, counts: Array) -> bool:
    """Whether `counts` suffice for the figures of a pattern."""
    off = shape.slow(counts)
    leaps = 1 < shape.stair < shape.period
    on = ~off if leaps else counts % shape.period == 0
    return bool(on.sum() > 1 and (shape.step == 1 or off.sum() > 1))
