import pytest

from hwprune.backend import Samples
from hwprune.latency.measure import kernel_ns


def samples(*runs):
    return Samples(tuple(map(tuple, runs)), (1.0,) * len(runs))


def test_rows_keep_to_the_fast_level_of_the_clock():
    # One process saw only the slow level, one saw the fast one for a third of its runs.
    fast, slow = [3000] * 10, [4500] * 20
    assert kernel_ns(samples(slow, fast + slow)) == 3000


def test_rows_do_not_take_a_single_lucky_run():
    assert kernel_ns(samples([10] + [3000] * 29)) == 3000


def test_no_samples_is_an_error():
    with pytest.raises(ValueError, match="no samples"):
        kernel_ns(samples([]))
