"""Chains of equal nodes, timed while nobody disturbs them (decision 0014). Sent like the agent."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnxruntime as ort
from hwprune.backends.cpu.sessions import (
    bound_call_of,
    call_of,
    open_session,
    session_options,
    share_threads,
    size_of,
    timed,
)

_WARM_UP = 3  # runs of a chain, each of them many executions of the kernel
_WAKE_UP_S = 0.2  # of work before the first timed run of a process
_OUTER_RUNS = 200  # of a session that does nothing: what a call costs
_LEAST_RUNS = 5
_LEAST_VISITS = 2  # that must have been left alone, if only they are to count
_PACE_S = 1.0  # over which the pace is told
_UNDISTURBED = 1.2  # times the pace: caches make it 1.1, a neighbour 1.35 and more
_FASTER = 1.15  # times what was taken for the pace: it was told while somebody disturbed
# Chains that are visited in turns, and the bytes that they may hold. What threads cost depends on
# where the cores are that a virtual machine has right now, which changes within seconds, and the
# pacemaker cannot tell (spinning threads look like neighbours): more chains see the same seconds.
_TOGETHER_WITH_THREADS = 256
_TOGETHER, _TOGETHER_BYTES = 48, 1 << 28
_RUNS_A_VISIT = 2  # the faster one counts
_WAIT_S, _NAP_S = 1.5, 0.002  # of a process for neighbours to leave; between two looks for them
_PATIENCE, _PATIENCE_S = 60, 0.3  # visits and seconds of runs after which a chain is given up


def chains(
    models: list[bytes],
    weights: list[Any],
    copies: list[int],
    threads: int,
    runs: int,
    seed: int,
    pace_ns: float | None = None,
    options: dict[str, Any] | None = None,
) -> Iterator[Any]:
    """[index, nanoseconds per copy and run, share of its cores] of chains of equal nodes.

    Chains are visited in turns until each has been left alone in `runs` visits; what the call
    itself costs is taken off. Model 0 must be the one that does nothing, and model 1 the pacemaker,
    which takes `pace_ns` where nobody disturbs it; without that it is told from its beats. Its
    answer, the fastest ones of all, comes last.
    """
    wanted = dict(options or {}, graph="disable")
    shared = share_threads(wanted, threads)

    def setup() -> ort.SessionOptions:
        return session_options(wanted, threads, shared)

    nothing = open_session(models[0], setup(), [])
    yield [0, _outer(call_of(nothing)), 1.0]
    once = float(np.percentile(_outer(bound_call_of(nothing)), 20))
    pace = Pacemaker(open_session(models[1], setup(), weights[1]), pace_ns)
    gate = pace if threads == 1 else None
    rng = random.Random(seed)
    order = iter(rng.sample(range(2, len(models)), len(models) - 2))
    most = _TOGETHER if threads == 1 else _TOGETHER_WITH_THREADS
    while together := _opened(order, models, weights, setup, most):
        some = [c for c in together if c.call]
        visit_in_turns(some, runs, gate, rng)
        for chain in together:
            times = [max(1, round((t - once) / copies[chain.index])) for t in chain.counted(gate)]
            chain.call = None  # ends its session
            yield [chain.index, times, chain.share(gate, threads)]
    yield [1, pace.told, 1.0]


def _outer(call: Callable[[], Any]) -> list[int]:
    """What calling a session that does nothing costs, after the processor has woken up."""
    begin = time.perf_counter()
    while time.perf_counter() - begin < _WAKE_UP_S:
        call()
    return [timed(call) for _ in range(_OUTER_RUNS)]


class Pacemaker:
    """A short chain that is always the same, to tell whether the machine is disturbed right now.

    Who shares a core with others is slowed down for some tenths of a millisecond up to seconds, by
    a third to nine tenths, each kernel differently: a burst of runs tells either of two times. Of
    runs that are spread out, those next to an undisturbed beat agree within 1 to 2 %.

    A neighbour may stay for longer than the pace takes to tell: where beats turn out to be clearly
    faster than `usual`, that is what the machine does undisturbed, and `usual` from then on.
    """

    def __init__(self, session: ort.InferenceSession, usual: float | None) -> None:
        self._call = bound_call_of(session)
        self.told: list[int] = []  # the fastest beats
        self.patience_s = _WAIT_S
        self.last = 0  # beat
        self.usual = usual or float("inf")
        begin = time.perf_counter()
        while len(self.told) < _LEAST_RUNS or (
            usual is None and time.perf_counter() - begin < _PACE_S
        ):
            self.beat()
        if usual is None:
            self.usual = float(np.median(self.told))

    def beat(self) -> int:
        """Nanoseconds of one run, now: of the second, as the first finds the caches as a chain left
        them, and takes up to five times as long behind a long one.
        """
        self._call()
        ns = timed(self._call)
        self.told = sorted([*self.told, ns])[:_LEAST_RUNS]
        self.last = ns
        fastest = float(np.median(self.told))
        if len(self.told) == _LEAST_RUNS and fastest * _FASTER < self.usual:
            self.usual = fastest
        return ns

    def alone(self, beat: int) -> bool:
        """Whether nobody disturbed the machine at a beat."""
        return beat <= _UNDISTURBED * self.usual

    def wait(self) -> None:
        """Until nobody disturbs the machine; all waiting of a process together has an end."""
        begin = time.perf_counter()
        while not self.alone(self.beat()) and time.perf_counter() - begin < self.patience_s:
            time.sleep(_NAP_S)
        self.patience_s -= time.perf_counter() - begin


class Visited:
    """A chain while it is timed; without a call where the runtime refuses it."""

    def __init__(self, index: int, call: Callable[[], Any] | None) -> None:
        self.index, self.call = index, call
        self.wall, self.cpu = 0, 0.0
        self.times: list[int] = []  # of visits
        self.beats: list[int] = []  # right behind them

    def visit(self, pace: Pacemaker | None) -> None:
        """The first run of a visit finds the caches as others left them and does not count."""
        assert self.call is not None
        self.call()
        start = time.process_time()
        times = [timed(self.call) for _ in range(_RUNS_A_VISIT)]
        self.cpu, self.wall = self.cpu + time.process_time() - start, self.wall + sum(times)
        self.times.append(min(times))
        if pace is not None:
            self.beats.append(pace.beat())

    def undisturbed(self, pace: Pacemaker | None) -> list[int]:
        """Visits that were left alone; without a pacemaker every one passes for that."""
        if pace is None:
            return self.times
        return [ns for ns, beat in zip(self.times, self.beats) if pace.alone(beat)]

    def done(self, runs: int, pace: Pacemaker | None) -> bool:
        """Whether enough visits were left alone, or no more are worth trying."""
        visits = len(self.times)
        given_up = visits >= _PATIENCE or self.wall > _PATIENCE_S * 1e9
        enough = visits >= runs and len(self.undisturbed(pace)) >= runs
        return enough or (given_up and visits >= _LEAST_RUNS)

    def counted(self, pace: Pacemaker | None) -> list[int]:
        """Visits that were left alone; where they are too few, as many of the fastest."""
        alone = self.undisturbed(pace)
        return alone if len(alone) >= _LEAST_VISITS else sorted(self.times)[:_LEAST_VISITS]

    def share(self, pace: Pacemaker | None, threads: int) -> float:
        """Of its cores that the process had: CPU time over wall time, and what neighbours left.

        CPU time says nothing with more threads: kernels too small to be shared leave cores idle.
        """
        had = self.cpu * 1e9 / max(1, self.wall) if threads == 1 else 1.0
        if pace is None or not self.beats or len(self.undisturbed(pace)) >= _LEAST_VISITS:
            return had
        return had * min(1.0, pace.usual / float(np.median(self.beats)))


def _opened(
    order: Iterator[int],
    models: list[bytes],
    weights: list[Any],
    options: Callable[[], ort.SessionOptions],
    most: int,
) -> list[Visited]:
    """The next chains that fit in memory together, warmed up."""
    found: list[Visited] = []
    held = 0
    for index in order:
        call = None
        try:
            session = open_session(models[index], options(), weights[index])
            call = bound_call_of(session)
            for _ in range(_WARM_UP):
                call()
            held += len(models[index]) + size_of(session)
        except Exception as error:
            print(error, file=sys.stderr)
            call = None
        found.append(Visited(index, call))
        if len(found) >= most or held > _TOGETHER_BYTES:
            break
    return found


def visit_in_turns(
    left: list[Visited], runs: int, pace: Pacemaker | None, rng: random.Random
) -> None:
    """Until each has been left alone often enough, or is given up."""
    while left:
        for chain in rng.sample(left, len(left)):
            if pace is not None and not pace.alone(pace.last):
                pace.wait()
            chain.visit(pace)
        left = [chain for chain in left if not chain.done(runs, pace)]
