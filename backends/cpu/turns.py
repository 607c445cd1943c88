"""Whole models, timed in turns. Sent to whoever measures."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from hwprune.backends.cpu.sessions import call_of, open_session, session_options, timed

_LEAST_RUNS = 5
# Least runs and seconds of a turn: with threads there is more to hand over.
_TURN, _TURN_S = 2, 0.005
_TURN_OF_THREADS, _TURN_OF_THREADS_S = 4, 0.1
_REST_S, _LONGEST_REST_S = 0.01, 1.0
_IDLE = 0.2  # processor time over time below which nobody spins


def files(
    models: list[bytes],
    threads: int,
    seconds: float,
    seed: int,
    options: dict[str, Any] | None = None,
) -> Iterator[Any]:
    """[index, nanoseconds of every run, CPU time over wall time] of whole models, in turns."""
    sessions = [open_session(m, session_options(options or {}, threads), []) for m in models]
    calls = [call_of(session) for session in sessions]
    order = [(seed + i) % len(models) for i in range(len(models))]
    for i in order:
        _warm_up(calls[i])
    runs: list[list[int]] = [[] for _ in models]
    cpu = [0.0] * len(models)
    begin = time.perf_counter()
    while not _enough(len(runs[order[-1]]), time.perf_counter() - begin, seconds):
        for i in order:
            if threads > 1:
                _rest()
            # The caches hold what the other model left; a network in service runs again and again.
            calls[i]()
            turn, done = time.perf_counter(), 0
            while not _turn_over(done, time.perf_counter() - turn, threads):
                used = time.process_time()
                runs[i].append(timed(calls[i]))
                cpu[i] += time.process_time() - used
                done += 1
    for i, (r, c) in enumerate(zip(runs, cpu)):
        yield [i, r, c * 1e9 / sum(r) / threads]


def _turn_over(done: int, used: float, threads: int) -> bool:
    if threads > 1:
        return done >= _TURN_OF_THREADS and used >= _TURN_OF_THREADS_S
    return done >= _TURN and used >= _TURN_S


def _rest() -> None:
    """Waits until the threads of the other sessions have stopped spinning for work.

    They would take this session's cores: for some 50 ms after a run, which made networks of a few
    milliseconds look nearly twice as slow as they are.
    """
    begin = time.perf_counter()
    while time.perf_counter() - begin < _LONGEST_REST_S:
        used, start = time.process_time(), time.perf_counter()
        time.sleep(_REST_S)
        if time.process_time() - used < _IDLE * (time.perf_counter() - start):
            return


def _warm_up(call: Callable[[], Any]) -> None:
    begin, done = time.perf_counter(), 0
    while done < 3 or (done < 10 and time.perf_counter() - begin < 0.5):
        call()
        done += 1


def _enough(runs: int, used: float, seconds: float) -> bool:
    """The time is used and 10 runs a second are done, or three times the time is used."""
    return (used >= seconds and runs >= 10 * seconds) or (
        used >= 3 * seconds and runs >= _LEAST_RUNS
    )
