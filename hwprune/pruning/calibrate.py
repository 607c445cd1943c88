"""Estimated losses put on the scale of measured ones.

A criterion orders channels well but takes errors at different positions as independent, which
makes it far too hopeful. So half of every group is really cut, alone, and its curve scaled to what
that costs after repair; or half of all groups together, which leaves the layers' shares as the
criterion says.
"""

from collections.abc import Mapping

from hwprune.pruning.ranking import Ranking

_AT = 0.5  # share of a group's channels that is really cut to measure

Probe = tuple[str, ...]  # the groups that are halved together


def alone(rankings: Mapping[str, Ranking]) -> list[Probe]:
    """One cut for every group."""
    return [(name,) for name in rankings]


def together(rankings: Mapping[str, Ranking]) -> list[Probe]:
    """One cut for all of them."""
    return [tuple(rankings)] if rankings else []


SALIENCIES = {"measured": alone, "estimated": together}


def half(ranking: Ranking) -> tuple[int, ...]:
    """The channels that stay of a group when the lesser half goes."""
    return ranking.kept(len(ranking.order) - _cut(ranking))


def rescaled(
    rankings: Mapping[str, Ranking], measured: Mapping[Probe, float]
) -> dict[str, Ranking]:
    """Curves that say `measured`, nats per sample, where the groups of a probe are halved."""
    found = dict(rankings)
    for probe, loss in measured.items():
        estimate = sum(rankings[name].error[_cut(rankings[name])] for name in probe)
        factor = loss / estimate if estimate > 0 else 1.0
        found |= {n: Ranking(rankings[n].order, rankings[n].error * factor) for n in probe}
    return found


def _cut(ranking: Ranking) -> int:
    return int(len(ranking.order) * _AT)
