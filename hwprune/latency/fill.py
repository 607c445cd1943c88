"""Measures what the table misses."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from hwprune.backend import Backend, Kernel
from hwprune.latency.measure import measure
from hwprune.latency.table import LatencyTable
from hwprune.store.lock import locked

_BATCH = 400  # rows per commit: what an interrupt may cost
_WAIT_S = 3600.0

Report = Callable[[int, int, str], None]  # rows measured so far, rows to measure, what is next


@dataclass(frozen=True, slots=True)
class Filled:
    """What `fill` did."""

    measured: int
    seconds: float


def fill(
    table: LatencyTable,
    backend: Backend,
    kernels: Sequence[Kernel],
    runs: int = 30,
    processes: int = 3,
    progress: Report | None = None,
) -> Filled:
    """Measures the kernels that have no row; every batch is stored before the next one starts.

    Args:
        table: Opened for this backend's identity; its threads are the runtime's.
        backend: Measures.
        kernels: What is wanted; known ones and repetitions cost nothing.
        runs: Timed runs per kernel and process.
        processes: Processes per kernel.
        progress: Called before each batch and at the end.

    Raises:
        BackendError: The target failed.
        StoreError: The table cannot be written, or another process measures for too long.
    """
    begin, done = time.monotonic(), 0
    missing = _missing(table, list(dict.fromkeys(kernels)))
    for batch in _batches(missing):
        if progress:
            progress(done, len(missing), _describe(batch))
        with _alone(table):
            # Another process may have measured them while we waited.
            rest = _missing(table, batch)
            samples = measure(backend, rest, table.threads, runs, processes)
            table.put_many(dict(zip(rest, samples, strict=True)))
        done += len(batch)
    if progress:
        progress(done, len(missing), "")
    return Filled(done, time.monotonic() - begin)


def _alone(table: LatencyTable) -> AbstractContextManager[None]:
    """One filler per table at a time, so that no row is measured twice."""
    if table.path is None:
        return nullcontext()
    return locked(table.path.with_name(table.path.name + ".lock"), _WAIT_S)


def _describe(batch: Sequence[Kernel]) -> str:
    return f"{batch[0].op} {batch[0].precision} and {len(batch) - 1} more"


def _missing(table: LatencyTable, kernels: Sequence[Kernel]) -> list[Kernel]:
    known = table.get_many(kernels)
    return [k for k in kernels if k not in known]


def _batches(kernels: Sequence[Kernel]) -> Iterator[list[Kernel]]:
    for start in range(0, len(kernels), _BATCH):
        yield list(kernels[start : start + _BATCH])
