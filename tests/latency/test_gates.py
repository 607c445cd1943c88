import pytest

from hwprune.backend import Samples, Timed
from hwprune.latency.gates import RETRIES, complete, spread, steady, undisturbed, without_gaps


def samples(*medians, shares=None):
    return Samples(tuple((ns,) * 5 for ns in medians), shares or (1.0,) * len(medians))


@pytest.mark.parametrize(
    ("medians", "expected"),
    [((1000,), 0.0), ((1000, 1200), 0.2), ((1200, 1000, 1010), 0.01), ((1000, 1100, 1300), 0.1)],
)
def test_the_faster_half_must_agree(medians, expected):
    assert spread(samples(*medians)) == pytest.approx(expected)


def test_a_gap_is_ten_seconds_more_than_a_hundred_medians():
    slow = (2_000_000_000,) * 4
    assert without_gaps(Timed((*slow, 9_000_000_000), 1.0)).runs_ns == (*slow, 9_000_000_000)
    fast = (1000,) * 4
    assert without_gaps(Timed((*fast, 9_999_999_999), 0.9)).runs_ns == (*fast, 9_999_999_999)
    assert without_gaps(Timed((*fast, 10_001_000_000), 0.9)) == Timed(fast, 0.9)
    assert without_gaps(Timed((), 1.0)) == Timed((), 1.0)


def test_a_process_that_shared_its_cores_does_not_count():
    assert undisturbed(samples(1000, 1000, shares=(0.5, 1.0))) == samples(1000)


def test_steady_needs_a_process_that_had_its_core():
    assert steady(samples(1000, 1001))
    assert not steady(samples(1000, 1001, shares=(0.5, 0.6)))
    assert not steady(samples(1000, 1200))


def test_a_row_is_complete_when_enough_agree_or_no_more_are_worth_it():
    assert not complete(samples(1000), 2)
    assert complete(samples(1000, 1001), 2)
    assert not complete(samples(1000, 1050), 2)
    assert complete(samples(*(1000 * 2**i for i in range(2 + RETRIES))), 2)
