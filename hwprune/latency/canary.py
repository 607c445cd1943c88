"""Whether rows of earlier runs still tell the time of this machine: three are measured again."""

import time
from collections.abc import Mapping
from statistics import median

from hwprune.backend import Backend, Kernel, Samples, Timed, gather
from hwprune.latency.gates import undisturbed
from hwprune.latency.records import Row

LIMIT = 0.10
_KEYS = 3
_LOOKS = 2
_RUNS = 24


def stale(
    backend: Backend, rows: Mapping[Kernel, Row], threads: int, runs: int = _RUNS
) -> str | None:
    """Why the rows are stale, as a sentence; None if they are not, or nothing can be said.

    A few kernels from fast to slow are timed in one fresh process. If their times are off by more
    than 10 % in the median, beyond what their own processes disagreed by, a second process looks
    again, and the faster of the two counts: a machine that was busy for a moment is not another.

    Raises:
        BackendError: The target failed.
    """
    chosen = _chosen(rows)
    seen: list[list[Timed]] = [[] for _ in chosen]
    off = 0.0
    for seed in range(_LOOKS if chosen else 0):
        for index, timed in backend.time_kernels(chosen, threads, runs, seed):
            seen[index].append(timed)
        off = _off(rows, dict(zip(chosen, seen, strict=True)))
        if abs(off) <= LIMIT:
            return None
    return _sentence(off, rows) if off else None


def _chosen(rows: Mapping[Kernel, Row]) -> list[Kernel]:
    """From fast to slow, evenly; the same ones every time."""
    order = sorted(rows, key=lambda k: (rows[k].ns, k.key()))
    places = {len(order) * (2 * i + 1) // (2 * _KEYS) for i in range(_KEYS)} if order else set()
    return [order[i] for i in sorted(places)]


def _off(rows: Mapping[Kernel, Row], seen: Mapping[Kernel, list[Timed]]) -> float:
    """Median deviation beyond each row's own spread; 0 where processes did not get their cores."""
    found = []
    for kernel, timed in seen.items():
        if not (samples := undisturbed(gather(timed))).runs_ns:
            return 0.0
        change = _fastest(samples) / _fastest(rows[kernel].samples) - 1
        beyond = max(0.0, abs(change) - rows[kernel].spread)
        found.append(beyond if change > 0 else -beyond)
    return median(found)


def _fastest(samples: Samples) -> float:
    """Median of the process that was disturbed the least: noise only ever slows down."""
    return min(median(runs) for runs in samples.runs_ns if runs)


def _sentence(off: float, rows: Mapping[Kernel, Row]) -> str:
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(max(r.created for r in rows.values())))
    way = "slower" if off > 0 else "faster"
    return f"the target has become {abs(off):.0%} {way} since {since}: its rows are measured anew"
