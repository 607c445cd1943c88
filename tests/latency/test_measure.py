import pytest

from hwprune.backend import Samples
from hwprune.latency.measure import kernel_ns, ratio, summarize


def samples(*runs, share=1.0):
    return Samples(tuple(map(tuple, runs)), (share,) * len(runs))


def test_figures_of_one_steady_process():
    found = summarize(samples(range(1, 102)))
    assert (found.p20_ns, found.p50_ns, found.p90_ns) == (21, 51, 91)
    assert found.spread == 0
    assert not found.contended
    assert not found.unsteady


def test_the_median_over_processes_ignores_a_bad_one():
    found = summarize(samples([100] * 9, [101] * 9, [900] * 9))
    assert found.p50_ns == 101
    assert found.spread == pytest.approx(800 / 101)
    assert found.unsteady


def test_contention_is_seen_in_the_cpu_share():
    assert summarize(samples([100], share=0.6)).contended


def test_rows_keep_to_the_fast_level_of_the_clock():
    # One process saw only the slow level, one saw the fast one for a third of its runs.
    fast, slow = [3000] * 10, [4500] * 20
    assert kernel_ns(samples(slow, fast + slow)) == 3000


def test_rows_do_not_take_a_single_lucky_run():
    assert kernel_ns(samples([10] + [3000] * 29)) == 3000


def test_ratios_pair_processes():
    slow, fast = samples([200] * 5, [300] * 5), samples([100] * 5, [150] * 5)
    assert ratio(slow, fast) == 2


def test_no_samples_is_an_error():
    with pytest.raises(ValueError, match="no samples"):
        summarize(samples([]))
