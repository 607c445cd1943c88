"""What may be claimed from samples."""

import pytest
from hwprune.backends.null import NullBackend

from hwprune.backend import Samples
from hwprune.stages.timing import Comparison, Timing, compare, judge, summarise
from hwprune.units import parse_budget


def samples(*medians_ns: int) -> Samples:
    """One process of constant times for each median."""
    return Samples(tuple((m,) * 10 for m in medians_ns), (1.0,) * len(medians_ns))


def comparison(compiled: Timing, ratio: float, percentile: str = "p50") -> Comparison:
    return Comparison(summarise(samples(1000, 1000, 1000)), compiled, (ratio,) * 3, percentile)


def test_percentiles_are_medians_over_processes():
    found = summarise(Samples((tuple(range(101)), (50,) * 10, (1000,) * 10), (1.0, 0.9, 0.5)))
    assert (found.p50, found.p90, found.cpu_share) == (50, 90, 0.9)
    assert found.spread == pytest.approx(950 / 50)
    assert found.percentiles().p90 == pytest.approx(90e-6)


def test_a_relative_budget_is_judged_by_ratios_an_absolute_one_by_time():
    found = comparison(summarise(samples(600, 600, 600)), ratio=0.5)
    assert found.measured_ns(parse_budget("0.6x")) == 500
    assert found.used(parse_budget("0.6x")) == pytest.approx(0.5 / 0.6)
    assert found.measured_ns(parse_budget("700ns")) == 600
    assert found.used(parse_budget("700ns")) == pytest.approx(6 / 7)


def test_processes_disagree_about_what_the_budget_is_held_against():
    timing = summarise(samples(500, 600, 650))
    found = Comparison(summarise(samples(1000, 1200, 1300)), timing, (0.5, 0.51, 0.5), "p50")
    assert found.spread(parse_budget("1ms")) == pytest.approx(150 / 600)
    assert found.spread(parse_budget("0.6x")) == pytest.approx(0.01 / 0.5)


@pytest.mark.parametrize(
    ("medians", "budget", "verdict"),
    [
        ((600, 600, 600), "600ns", "met"),
        ((600, 600, 600), "599ns", "missed"),
        ((500, 600, 700), "610ns", "noisy"),
        ((500, 600, 700), "590ns", "noisy"),
        ((500, 600, 700), "900ns", "met"),
        ((500, 600, 700), "300ns", "missed"),
        ((590, 600, 610), "605ns", "met"),
    ],
)
def test_verdicts(medians, budget, verdict):
    timing = summarise(samples(*medians))
    assert comparison(timing, timing.p50 / 1000).verdict(parse_budget(budget)) == verdict


def test_a_machine_that_became_slower_is_no_miss():
    slowed = comparison(summarise(samples(600, 600, 600)), ratio=0.6)  # the original takes 1000
    budget, before = parse_budget("400ns"), summarise(samples(650, 650, 650))
    assert slowed.used(budget) == pytest.approx(1.5)
    assert slowed.verdict(budget) == "missed"
    assert slowed.verdict(budget, before) == "noisy"
    assert slowed.verdict(parse_budget("380ns"), before) == "missed"
    assert slowed.verdict(parse_budget("600ns"), before) == "met"
    assert slowed.verdict(parse_budget("0.5x"), before) == "missed"


def test_quiet_sees_through_a_neighbour_that_takes_most_of_the_time():
    calm, disturbed = (100,) * 9 + (104,), (100,) * 3 + (180,) * 7
    alone = summarise(Samples((calm, calm, calm), (1.0,) * 3))
    shared = summarise(Samples((disturbed, calm, disturbed), (1.0,) * 3))
    assert shared.p50 == 180
    assert shared.quiet == alone.quiet == 100


def test_files_are_timed_in_pairs(network):
    backend = NullBackend(drift=5.0)  # the later half is far slower, for both alike
    found = compare(backend, network, network, 1, 0.1, "p90")
    assert found.ratio == pytest.approx(1.0, rel=0.02)
    assert len(found.ratios) == 3


@pytest.mark.parametrize(
    ("medians", "looks", "verdict"),
    [
        ([(90, 90, 90)], [3], "met"),
        ([(60, 85, 75)], [3], "met"),  # they disagree, but all of them are far below
        ([(90, 99, 110), (96, 97, 98)], [3, 6], "met"),
        ([(110, 110, 110), (96, 97, 98)], [3, 6], "met"),
        ([(110, 110, 110), (110, 110, 110)], [3, 6], "missed"),
        ([(90, 90, 200), (90, 105, 125)], [3, 6], "noisy"),
    ],
)
def test_what_is_not_clearly_met_is_looked_at_twice(network, medians, looks, verdict):
    asked = []

    class Restless(NullBackend):
        def time_models(self, models, threads, seconds, processes, patience=1.0):
            asked.append(processes)
            return [samples(100, 100, 100), samples(*medians[len(asked) - 1])]

    budget = parse_budget("1x")
    found = judge(Restless(), network, network, 1, 1.0, budget, "p50")
    assert asked == looks
    assert found.verdict(budget) == verdict
