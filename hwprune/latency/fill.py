"""Measures what the table misses."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from statistics import median

from hwprune.backend import PACE, Backend, Kernel, Timed
from hwprune.latency.canary import stale
from hwprune.latency.gates import RETRIES, complete, without_gaps
from hwprune.latency.records import Row
from hwprune.latency.table import LatencyTable
from hwprune.store.lock import lock_beside, locked
from hwprune.store.writer import Writer

_WAIT_S = 3600.0
_FASTER = 1.15  # times what was taken for the pace: a neighbour makes it 1.35 times as slow

# Measurements made so far and to be made (of one kernel by one process), and what was measured.
Report = Callable[[int, int, str], None]


def fill(
    table: LatencyTable,
    backend: Backend,
    kernels: Sequence[Kernel],
    runs: int = 30,
    processes: int = 3,
    retries: int = RETRIES,
    progress: Report | None = None,
) -> int:
    """Measures the kernels that have no row, or one that fewer processes have seen; how many these
    were.

    What a process says about a kernel is stored at once, and a later call goes on from there. Rows
    whose processes disagree or did not get their cores are looked at by up to `retries` more.
    The first call for a table compares its rows with the machine. What the user should know of all
    this is in `table.notes`.

    Args:
        table: Opened for this backend's identity; its threads are the runtime's.
        backend: Measures.
        kernels: What is wanted; known ones and repetitions cost nothing.
        runs: Timed runs per kernel and process.
        processes: Processes per kernel.
        retries: More processes for a row in doubt.
        progress: Called after each measurement.

    Raises:
        BackendError: The target failed.
        StoreError: The table cannot be written, or another process measures for too long.
    """
    begin = time.time()
    filler = _Filler(table, backend, runs, processes, retries, progress or (lambda *_: None))
    wanted = list(dict.fromkeys(kernels))
    with _alone(table, filler.waits):
        table.renew()
        filler.keep_pace()
        filler.check(wanted, begin)
        return filler.fill(wanted)


class _Filler:
    """One call of `fill`, while nobody else measures into the table."""

    def __init__(
        self,
        table: LatencyTable,
        backend: Backend,
        runs: int,
        processes: int,
        retries: int,
        progress: Report,
    ) -> None:
        self._table, self._backend, self._progress = table, backend, progress
        self._runs, self._processes, self._retries = runs, processes, retries
        self._done = self._discarded = 0

    def waits(self, holder: str) -> None:
        """Says for whom."""
        self._progress(0, 1, f"waiting for {holder}, which is measuring")

    def keep_pace(self) -> None:
        """All rows of the table are measured at the pace at which the first one was."""
        if not self._backend.keeps_pace:
            return
        if not self._table.rows([PACE]):
            self._table.begin(self._backend.conditions())
            timings = self._backend.time_kernels([PACE], self._table.threads, self._runs, 0)
            self._table.add([(PACE, timed) for _, timed in timings])
        if row := self._table.rows([PACE]).get(PACE):
            self._backend.keep_pace(row.ns)

    def check(self, kernels: Sequence[Kernel], begin: float) -> None:
        """Rows from before `begin` are stale if the machine takes another time for them now."""
        rows = {k: r for k, r in self._table.rows(kernels).items() if r.created < begin}
        if rows and not self._table.checked and (why := self._stale(rows)):
            self._table.begin(self._backend.conditions())
            self._table.outdate()
            self._table.note(why)
        self._table.checked = True

    def fill(self, kernels: Sequence[Kernel]) -> int:
        """Number of rows that were missing."""
        missing = left = self._missing(kernels)
        if missing:
            self._table.begin(self._backend.conditions())
        looks = self._processes + self._retries
        while left and looks:
            looks -= 1
            if self._measure(left):
                left = missing = list(kernels)
                looks = self._processes + self._retries
            left = self._missing(left)
        if self._discarded:
            self._table.note(
                f"{self._discarded} runs were discarded: the machine stood still for seconds"
            )
        return len(missing)

    def _stale(self, rows: Mapping[Kernel, Row]) -> str | None:
        self._progress(0, 1, "comparing earlier rows with the machine")
        return stale(self._backend, rows, self._table.threads)

    def _missing(self, kernels: Sequence[Kernel]) -> list[Kernel]:
        own, foreign = self._table.rows(kernels), self._table.foreign_rows(kernels)
        return [k for k in kernels if not (self._complete(own[k]) if k in own else k in foreign)]

    def _complete(self, row: Row) -> bool:
        return complete(row.samples, self._processes, self._retries)

    def _measure(self, kernels: Sequence[Kernel]) -> bool:
        """One more process looks at all of them; whether it found all rows of the table wanting."""
        rows = self._table.rows(kernels)
        seen = [len(rows[k].samples.runs_ns) if k in rows else 0 for k in kernels]
        total = self._done + sum(max(1, self._processes - n) for n in seen)
        paced = self._backend.keeps_pace and self._table.threads == 1
        asked = [*kernels, *([PACE] if paced else [])]
        timings = self._backend.time_kernels(asked, self._table.threads, self._runs, max(seen))
        pace = Timed((), 1.0)
        with Writer(self._table.add) as writer:
            for index, timed in timings:
                if asked[index] == PACE:
                    pace = timed
                    continue
                writer.put((kernels[index], self._cleaned(timed)))
                self._done += 1
                text = f"{kernels[index].op} {kernels[index].precision}"
                self._progress(self._done, total, text)
        return self._quickened(pace)

    def _quickened(self, pace: Timed) -> bool:
        """Whether the pace of the table was told while somebody disturbed the machine: it has been
        seen to be clearly faster. Its rows are stale then, and it gets this pace.
        """
        known = self._table.rows([PACE]).get(PACE)
        if not pace.runs_ns or known is None or median(pace.runs_ns) * _FASTER > known.ns:
            return False
        self._table.begin(self._backend.conditions())
        self._table.outdate()
        self._table.add([(PACE, pace)])
        self._table.note("the machine was disturbed when rows were measured: they are made anew")
        self._backend.keep_pace(median(pace.runs_ns))
        return True

    def _cleaned(self, timed: Timed) -> Timed:
        kept = without_gaps(timed)
        self._discarded += len(timed.runs_ns) - len(kept.runs_ns)
        return kept


def _alone(table: LatencyTable, waiting: Callable[[str], None]) -> AbstractContextManager[None]:
    """One filler per table at a time, so that no row is measured twice."""
    if table.path is None:
        return nullcontext()
    return locked(lock_beside(table.path), _WAIT_S, waiting)
