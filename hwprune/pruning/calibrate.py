"""Estimated losses put on the scale of measured ones.

A criterion orders channels well but takes errors at different positions as independent, which
makes it far too hopeful. So half of every group is really cut, alone, and its curve scaled to what
that costs after repair.
"""

from collections.abc import Mapping

from hwprune.pruning.criteria import Ranking

_AT = 0.5  # share of a group's channels that is really cut to measure


def half(ranking: Ranking) -> tuple[int, ...]:
    """The channels that stay of a group when the lesser half goes."""
    return ranking.kept(len(ranking.order) - _cut(ranking))


def rescaled(rankings: Mapping[str, Ranking], measured: Mapping[str, float]) -> dict[str, Ranking]:
    """Curves that say `measured`, nats per sample, where a group is halved."""
    return {name: _scaled(ranking, measured[name]) for name, ranking in rankings.items()}


def _scaled(ranking: Ranking, measured: float) -> Ranking:
    estimate = ranking.error[_cut(ranking)]
    return Ranking(ranking.order, ranking.error * (measured / estimate if estimate > 0 else 1.0))


def _cut(ranking: Ranking) -> int:
    return int(len(ranking.order) * _AT)
