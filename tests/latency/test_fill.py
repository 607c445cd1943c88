import multiprocessing

import pytest
from hwprune.backends.null import NullBackend

from hwprune.backend import Samples
from hwprune.latency import fill as filling
from hwprune.latency.fill import fill
from hwprune.latency.table import LatencyTable
from hwprune.testing.kernels import conv, example

KERNELS = [conv(channels=(16, c)) for c in range(1, 11)] + [example("Add")]


class Counting(NullBackend):
    """Remembers what it was asked for; fails at the call given."""

    def __init__(self, fail_at=0):
        super().__init__()
        self.asked = []
        self.fail_at = fail_at

    def time_kernels(self, kernels, threads, runs, seed):
        if seed == 0:
            self.asked.append(list(kernels))
        if len(self.asked) == self.fail_at:
            raise KeyboardInterrupt
        return super().time_kernels(kernels, threads, runs, seed)


@pytest.fixture
def table(tmp_path):
    with LatencyTable(tmp_path / "latency.db", NullBackend().identity(), 1) as found:
        yield found


def test_only_missing_rows_are_measured(table):
    backend = Counting()
    assert fill(table, backend, KERNELS[:4]).measured == 4
    assert fill(table, backend, KERNELS).measured == len(KERNELS) - 4
    assert fill(table, backend, KERNELS).measured == 0
    assert backend.asked == [KERNELS[:4], KERNELS[4:]]
    assert len(table.get_many(KERNELS)) == len(KERNELS)


def test_repetitions_are_measured_once(table):
    assert fill(table, NullBackend(), [KERNELS[0]] * 5).measured == 1


def test_an_interrupt_keeps_the_finished_batches(table, monkeypatch):
    monkeypatch.setattr(filling, "_BATCH", 4)
    with pytest.raises(KeyboardInterrupt):
        fill(table, Counting(fail_at=3), KERNELS)
    assert len(table) == 8
    again = Counting()
    assert fill(table, again, KERNELS).measured == len(KERNELS) - 8


def test_progress_ends_at_the_total(table, monkeypatch):
    monkeypatch.setattr(filling, "_BATCH", 4)
    seen = []
    fill(table, NullBackend(), KERNELS, progress=lambda *report: seen.append(report))
    assert [done for done, _, _ in seen] == [0, 4, 8, 11]
    assert {total for _, total, _ in seen} == {11}
    assert seen[0][2].startswith("Conv fp32")


def test_runs_and_processes_reach_the_backend(table):
    fill(table, NullBackend(), KERNELS[:1], runs=7, processes=2)
    stored: Samples = table.row(KERNELS[0]).samples
    assert [len(r) for r in stored.runs_ns] == [7, 7]


def test_a_table_in_memory_works():
    with LatencyTable(None, NullBackend().identity(), 1) as memory:
        assert fill(memory, NullBackend(), KERNELS).measured == len(KERNELS)


def _fill_and_count(path, results):
    backend = Counting()
    with LatencyTable(path, backend.identity(), 1) as table:
        fill(table, backend, KERNELS)
    results.put(sum(map(len, backend.asked)))


def test_two_fillers_measure_every_row_once(table):
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    fillers = [
        context.Process(target=_fill_and_count, args=(table.path, results)) for _ in range(2)
    ]
    for filler in fillers:
        filler.start()
    counts = [results.get(timeout=60) for _ in fillers]
    for filler in fillers:
        filler.join()
    assert sum(counts) == len(KERNELS)
    assert len(table) == len(KERNELS)
