import multiprocessing
import os

import pytest
from hwprune.backends.null import NullBackend

from hwprune.backend import PACE, Timed
from hwprune.latency.fill import fill
from hwprune.latency.gates import RETRIES
from hwprune.latency.table import LatencyTable
from hwprune.store.lock import lock_beside, locked
from hwprune.testing.kernels import conv, example

KERNELS = [conv(channels=(16, c)) for c in range(1, 11)] + [example("Add")]


class Counting(NullBackend):
    """Remembers what it was asked for; is interrupted after so many results."""

    def __init__(self, interrupted_after=None):
        super().__init__()
        self.asked = []
        self.left = interrupted_after

    def time_kernels(self, kernels, threads, runs, seed):
        self.asked.append(list(kernels))
        for found in super().time_kernels(kernels, threads, runs, seed):
            if self.left == 0:
                raise KeyboardInterrupt
            self.left = None if self.left is None else self.left - 1
            yield found


class Scripted(NullBackend):
    """What the processes see of every kernel, one after the other; the last for good."""

    def __init__(self, *seen):
        super().__init__()
        self.seen = list(seen)

    def time_kernels(self, kernels, threads, runs, seed):
        timed = self.seen.pop(0) if len(self.seen) > 1 else self.seen[0]
        yield from ((i, timed) for i in range(len(kernels)))


def timed(ns, share=1.0):
    return Timed((ns,) * 9, share)


@pytest.fixture
def table(tmp_path):
    with LatencyTable(tmp_path / "latency.db", NullBackend().identity(), 1) as found:
        yield found


def test_only_missing_rows_are_measured(table):
    backend = Counting()
    assert fill(table, backend, KERNELS[:4]) == 4
    assert fill(table, backend, KERNELS) == len(KERNELS) - 4
    assert fill(table, backend, KERNELS) == 0
    assert backend.asked == [KERNELS[:4]] * 3 + [KERNELS[4:]] * 3
    assert len(table.get_many(KERNELS)) == len(KERNELS)


def test_repetitions_are_measured_once(table):
    assert fill(table, NullBackend(), [KERNELS[0]] * 5) == 1


def test_an_interrupt_keeps_every_result_and_the_next_run_goes_on_from_there(table):
    with pytest.raises(KeyboardInterrupt):
        fill(table, Counting(interrupted_after=15), KERNELS)
    seen = [len(table.row(k).samples.runs_ns) for k in KERNELS]
    assert seen == [2] * 4 + [1] * 7
    again = Counting()
    fill(table, again, KERNELS)
    assert sum(map(len, again.asked)) == 3 * len(KERNELS) - 15
    assert [len(table.row(k).samples.runs_ns) for k in KERNELS] == [3] * len(KERNELS)


def test_more_processes_continue_what_fewer_have_seen(table):
    fill(table, NullBackend(), KERNELS, processes=2)
    assert fill(table, Counting(), KERNELS, processes=2) == 0
    more = Counting()
    assert fill(table, more, KERNELS, processes=5) == len(KERNELS)
    assert len(more.asked) == 3


def test_progress_ends_at_the_total(table):
    reports = []
    fill(table, NullBackend(), KERNELS, progress=lambda *report: reports.append(report))
    assert [done for done, _, _ in reports] == list(range(1, 34))
    assert {total for _, total, _ in reports} == {33}
    assert reports[0][2] == "Conv fp32"


def test_runs_and_processes_reach_the_backend(table):
    fill(table, NullBackend(), KERNELS[:1], runs=7, processes=2)
    assert [len(r) for r in table.row(KERNELS[0]).samples.runs_ns] == [7, 7]


def test_a_table_in_memory_works():
    with LatencyTable(None, NullBackend().identity(), 1) as memory:
        assert fill(memory, NullBackend(), KERNELS) == len(KERNELS)


def test_a_process_without_its_core_is_replaced(table):
    starved = Scripted(timed(1500, share=0.5), timed(1000))
    fill(table, starved, KERNELS[:1], processes=2)
    row = table.row(KERNELS[0])
    assert row.samples.cpu_share == (0.5, 1.0, 1.0)
    assert row.steady
    assert row.ns == 1000
    assert table.notes == ()


def test_processes_that_disagree_are_asked_again(table):
    fill(table, Scripted(timed(1300), timed(1000), timed(1010)), KERNELS[:1], processes=2)
    row = table.row(KERNELS[0])
    assert len(row.samples.runs_ns) == 3
    assert row.steady
    assert row.spread == pytest.approx(0.01)


def test_a_row_in_doubt_is_kept_and_marked(table):
    wild = Scripted(*(timed(1000 * 2**i) for i in range(9)))
    fill(table, wild, KERNELS[:1], processes=2)
    row = table.row(KERNELS[0])
    assert len(row.samples.runs_ns) == 2 + RETRIES
    assert not row.steady
    assert row.spread > 0.10
    assert fill(table, wild, KERNELS[:1], processes=2) == 0


def test_a_suspended_machine_costs_one_run(table):
    gap = Timed((1000,) * 8 + (12_000_000_000,), 1.0)
    fill(table, Scripted(gap, timed(1000)), KERNELS[:1], processes=2)
    assert [len(r) for r in table.row(KERNELS[0]).samples.runs_ns] == [8, 9]
    assert "1 runs were discarded" in table.notes[0]


def test_the_conditions_are_noted_beside_the_rows(table):
    class Noting(NullBackend):
        def conditions(self):
            return {"governor": "performance"}

    fill(table, Noting(), KERNELS[:1])
    assert table.conditions(table.row(KERNELS[0])) == {"governor": "performance"}


def _fill_and_count(path, said, results):
    backend = Counting()
    with LatencyTable(path, backend.identity(), 1) as table:
        fill(table, backend, KERNELS, progress=lambda *report: said.put(report[2]))
    results.put(sum(map(len, backend.asked)))


def test_two_fillers_measure_everything_once(table):
    context = multiprocessing.get_context("spawn")
    said, results = context.Queue(), context.Queue()
    arguments = (table.path, said, results)
    fillers = [context.Process(target=_fill_and_count, args=arguments) for _ in range(2)]
    with locked(lock_beside(table.path)):
        for filler in fillers:
            filler.start()
        waiting = [said.get(timeout=60) for _ in fillers]
    assert all(text.startswith(f"waiting for pid {os.getpid()}") for text in waiting)
    counts = [results.get(timeout=60) for _ in fillers]
    for filler in fillers:
        filler.join()
    assert sorted(counts) == [0, 3 * len(KERNELS)]
    assert len(table) == len(KERNELS)


class Paced(NullBackend):
    """A machine with neighbours: the pace that each process sees, the last for good."""

    keeps_pace = True

    def __init__(self, *paces):
        super().__init__()
        self.paces, self.kept = list(paces), []

    def keep_pace(self, pace_ns):
        self.kept.append(pace_ns)

    def time_kernels(self, kernels, threads, runs, seed):
        pace = self.paces.pop(0) if len(self.paces) > 1 else self.paces[0]
        slower = pace / 100
        for index, timed in super().time_kernels(kernels, threads, runs, seed):
            runs_ns = (pace,) * 5 if kernels[index] == PACE else timed.runs_ns
            yield index, Timed(tuple(round(slower * ns) for ns in runs_ns), 1.0)


def test_rows_measured_at_a_pace_that_was_told_beside_a_neighbour_are_made_anew(table):
    """The first three processes never saw the machine alone, and agree."""
    pace = Paced(150, 150, 150, 100)
    assert fill(table, pace, KERNELS[:3]) == 3
    assert pace.kept[0] > pace.kept[-1]
    alone = NullBackend()
    with LatencyTable(None, alone.identity(), 1) as undisturbed:
        fill(undisturbed, alone, KERNELS[:3])
        assert table.get_many(KERNELS[:3]) == undisturbed.get_many(KERNELS[:3])
    assert any("made anew" in note for note in table.notes)


def test_a_pace_a_little_faster_changes_nothing(table):
    pace = Paced(104, 104, 100)
    fill(table, pace, KERNELS[:3])
    assert len(pace.kept) == 1
    assert len(table.row(KERNELS[0]).samples.runs_ns) == 3


def test_rows_that_another_process_made_stale_meanwhile_are_measured_too(tmp_path):
    """As known at the end as if nobody else had been there."""
    identity, path = NullBackend().identity(), tmp_path / "latency.db"
    with LatencyTable(path, identity, 1) as table, LatencyTable(path, identity, 1) as other:
        fill(table, NullBackend(), KERNELS[:-1])
        other.begin({})
        other.outdate()
        assert fill(table, NullBackend(), KERNELS) == len(KERNELS)
        assert set(table.get_many(KERNELS)) == set(KERNELS)
