"""What the closed loop aims at after what it has timed."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from hwprune.backend import Samples
from hwprune.latency.calibrate import Calibration
from hwprune.plan import Plan
from hwprune.search.study import Evaluated, SearchResult
from hwprune.stages.fitting import AIM, Fit, planned_ns
from hwprune.stages.timing import Comparison, summarise
from hwprune.units import parse_budget


def timed(loss: float, *medians_ns: int) -> Fit:
    """A candidate that one process after the other timed at these medians; the original: 1 us."""
    a, b = (
        summarise(Samples(tuple((m,) * 10 for m in medians), (1.0,) * 3))
        for medians in ((1000, 1000, 1000), medians_ns)
    )
    comparison = Comparison(a, b, tuple(m / 1000 for m in medians_ns), "p50")
    best = Evaluated({}, loss, 1.0)
    result = SearchResult(best, (best,), (loss,))
    return Fit(Plan(), {}, loss, result, Calibration(), 1.0, comparison)


@pytest.fixture
def run():
    return SimpleNamespace(limit_ns=1000.0, budget=parse_budget("1us"))


def test_nothing_timed_or_something_lost_aims_a_little_below_the_budget(run):
    assert planned_ns(run) == 1000 * AIM
    assert planned_ns(run, [timed(0.1, 900, 1000, 1100)]) == 1000 * AIM


@pytest.mark.parametrize(
    ("medians", "room"), [((999, 1000, 1001), 0.03), ((970, 1000, 1020), 0.05), ((1, 10, 20), 0.12)]
)
def test_where_nothing_is_lost_doubt_makes_room(run, medians, room):
    fit = timed(0.0, *medians)
    assert planned_ns(run, [fit]) == pytest.approx(1000 * (AIM - room))
    assert planned_ns(run, [replace(fit, loss=1.0)]) == 1000 * AIM
