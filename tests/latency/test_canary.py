import pytest
from hwprune.backends.null import FakeClock, NullBackend

from hwprune.backend import Timed
from hwprune.latency.canary import stale
from hwprune.latency.fill import fill
from hwprune.latency.table import LatencyTable
from hwprune.testing.kernels import conv

KERNELS = [conv(channels=(16, 16 * c)) for c in range(1, 12)]


class Machine(NullBackend):
    """Prices times `factor`, one for each process in turn; the last for good."""

    def __init__(self, *factors, share=1.0):
        super().__init__()
        self.factors = list(factors) or [1.0]
        self.share = share
        self.asked = []

    def time_kernels(self, kernels, threads, runs, seed):
        factor = self.factors.pop(0) if len(self.factors) > 1 else self.factors[0]
        self.asked.append(list(kernels))
        for index, timed in super().time_kernels(kernels, threads, runs, seed):
            yield index, Timed(tuple(round(factor * t) for t in timed.runs_ns), self.share)


@pytest.fixture
def path(tmp_path):
    """A file in which all kernels have rows, measured by an earlier run."""
    found = tmp_path / "latency.db"
    with LatencyTable(found, NullBackend().identity(), 1) as table:
        fill(table, NullBackend(), KERNELS)
    return found


def opened(path):
    return LatencyTable(path, NullBackend().identity(), 1)


def rows(path):
    with opened(path) as table:
        return table.rows(KERNELS)


def test_three_kernels_from_fast_to_slow_are_looked_at_once(path):
    machine = Machine()
    with opened(path) as table:
        assert fill(table, machine, KERNELS) == 0
        fill(table, machine, KERNELS)
    assert machine.asked == [[KERNELS[1], KERNELS[5], KERNELS[9]]]


@pytest.mark.parametrize("factor", [0.7, 1.2])
def test_a_machine_that_has_changed_is_measured_anew(path, factor):
    before = rows(path)
    with opened(path) as table:
        assert fill(table, Machine(factor), KERNELS) == len(KERNELS)
        assert "rows are measured anew" in table.notes[0]
        assert ("slower" in table.notes[0]) == (factor > 1)
        for kernel, row in table.rows(KERNELS).items():
            assert row.ns == pytest.approx(factor * before[kernel].ns, rel=1e-3)
            assert len(row.samples.runs_ns) == 3  # none of what was seen before


def test_stale_rows_that_were_not_asked_for_are_missing_later(path):
    with opened(path) as table:
        fill(table, Machine(1.2), KERNELS[:6])
        assert table.get(KERNELS[-1]) is None
        assert len(table) == 6
    with opened(path) as table:
        assert table.get(KERNELS[-1]) is None
        assert fill(table, Machine(1.2), KERNELS) == len(KERNELS) - 6


def test_a_clock_that_drifts_is_noticed(path):
    clock = FakeClock()
    clock.advance(10_000_000_000)
    with opened(path) as table:
        fill(table, NullBackend(drift=0.03, clock=clock), KERNELS)
        assert table.notes


def test_a_moment_of_noise_is_no_change(path):
    machine = Machine(1.5, 1.0)
    with opened(path) as table:
        assert fill(table, machine, KERNELS) == 0
        assert table.notes == ()
    assert len(machine.asked) == 2


@pytest.mark.parametrize("machine", [Machine(1.09), Machine(0.93), Machine(2.0, share=0.5)])
def test_small_changes_and_starved_processes_say_nothing(path, machine):
    assert stale(machine, rows(path), 1) is None


def test_noise_alone_never_makes_rows_stale():
    with LatencyTable(None, NullBackend().identity(), 1) as table:
        fill(table, NullBackend(noise=0.3), KERNELS)
        found = table.rows(KERNELS)
    noisy = NullBackend(noise=0.3)
    assert [stale(noisy, found, 1) for _ in range(50)] == [None] * 50


def test_what_the_processes_of_a_row_disagreed_by_is_allowed_for(tmp_path):
    with LatencyTable(tmp_path / "latency.db", NullBackend().identity(), 1) as table:
        fill(table, Machine(1.0, 1.3), KERNELS, processes=2)
        found = table.rows(KERNELS)
    assert min(r.spread for r in found.values()) > 0.25
    assert stale(Machine(1.3), found, 1) is None
    assert stale(Machine(1.5), found, 1) is not None


def test_no_rows_no_canary():
    assert stale(Machine(), {}, 1) is None
