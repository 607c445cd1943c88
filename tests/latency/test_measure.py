import pytest

from hwprune.backend import Samples
from hwprune.latency.measure import kernel_ns


def samples(*runs):
    return Samples(tuple(map(tuple, runs)), (1.0,) * len(runs))


def test_a_row_is_the_median_of_process_medians():
    # One process shared its core all the time, one for a third of its runs.
    fast, slow = [3000] * 20, [4500] * 10
    assert kernel_ns(samples(slow, fast + slow, fast)) == 3000
    assert kernel_ns(samples([1000], [2000], [9000])) == 2000


def test_rows_do_not_take_a_single_lucky_run():
    assert kernel_ns(samples([10] + [3000] * 29)) == 3000


def test_no_samples_is_an_error():
    with pytest.raises(ValueError, match="no samples"):
        kernel_ns(samples([]))
