"""Whole models, timed in turns. Sent to whoever measures."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from hwprune.backends.cpu.sessions import call_of, open_session, session_options, timed
from hwprune.backends.cpu.visits import Pacemaker

_LEAST_RUNS = 5
_UNDISTURBED_RUNS = 12  # of a model in a process, for its undisturbed time to be told
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
    pace_ns: float | None = None,
    patience: float = 1.0,
    options: dict[str, Any] | None = None,
) -> Iterator[Any]:
    """[index, nanoseconds of every run, those of them that nobody disturbed, CPU time over wall
    time] of whole models, in turns.

    The last model is the pacemaker, which takes `pace_ns`; without that nobody can tell who was
    disturbed. The turns go on for up to `patience` times the seconds until no model lacks
    undisturbed runs.
    """
    *models, beats = models
    sessions = [open_session(m, session_options(options or {}, threads), []) for m in models]
    calls = [call_of(session) for session in sessions]
    pace = None
    if pace_ns and threads == 1:
        as_it_is = dict(options or {}, graph="disable")  # optimised, nothing would be left of it
        pace = Pacemaker(open_session(beats, session_options(as_it_is, 1), []), pace_ns)
    order = [(seed + i) % len(calls) for i in range(len(calls))]
    for i in order:
        _warm_up(calls[i])
    seen = [_Seen() for _ in calls]
    begin = time.perf_counter()
    while not _enough(seen[order[-1]], time.perf_counter() - begin, seconds) or (
        pace is not None
        and time.perf_counter() - begin < patience * seconds
        and any(s.lacks_runs(pace) for s in seen)
    ):
        for i in order:
            if threads > 1:
                _rest()
            # The caches hold what the other model left; a network in service runs again and again.
            calls[i]()
            seen[i].turn(calls[i], threads, pace)
    for i, s in enumerate(seen):
        yield [i, s.runs, s.undisturbed(pace), s.cpu * 1e9 / sum(s.runs) / threads]


class _Seen:
    """What was seen of one model: every run, and the beat behind the turn that it was in."""

    def __init__(self) -> None:
        self.runs: list[int] = []
        self.beats: list[int] = []
        self.cpu = 0.0

    def turn(self, call: Callable[[], Any], threads: int, pace: Pacemaker | None) -> None:
        """A few runs in a row."""
        turn, done = time.perf_counter(), 0
        before = pace.beat() if pace else 0
        while not _turn_over(done, time.perf_counter() - turn, threads):
            used = time.process_time()
            self.runs.append(timed(call))
            self.cpu += time.process_time() - used
            done += 1
        slower = max(before, pace.beat()) if pace else 0
        self.beats += [slower] * done

    def undisturbed(self, pace: Pacemaker | None) -> list[int]:
        """Runs of turns with an undisturbed beat before and behind."""
        if pace is None:
            return []
        return [ns for ns, beat in zip(self.runs, self.beats) if pace.alone(beat)]

    def lacks_runs(self, pace: Pacemaker) -> bool:
        """Whether too few of them were undisturbed."""
        return len(self.undisturbed(pace)) < _UNDISTURBED_RUNS


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


def _enough(seen: _Seen, used: float, seconds: float) -> bool:
    """The time is used and 10 runs a second are done, or three times the time is used."""
    runs = len(seen.runs)
    return (used >= seconds and runs >= 10 * seconds) or (
        used >= 3 * seconds and runs >= _LEAST_RUNS
    )
