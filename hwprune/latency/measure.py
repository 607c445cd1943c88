"""From raw samples to the figures that decisions are made on."""

from collections.abc import Sequence
from statistics import median

from hwprune.backend import Backend, Kernel, Samples, Timed, gather

CONTENDED = 0.90  # CPU time over wall time below which a process did not have its cores
AGREED = 0.03  # spread of process medians up to which no further process is asked
UNSTEADY = 0.10  # spread of process medians above which they do not agree (pyperf's limit)


def kernel_ns(samples: Samples) -> float:
    """The price of a latency-table row: the median over processes of each one's median.

    What a whole run costs beyond the sum of such rows is calibrated on measured plans, not here.

    Raises:
        ValueError: There is no sample at all.
    """
    found = [median(runs) for runs in samples.runs_ns if runs]
    if not found:
        raise ValueError("there are no samples to summarise")
    return float(median(found))


def measure(
    backend: Backend, kernels: Sequence[Kernel], threads: int, runs: int, processes: int
) -> list[Samples]:
    """Times every kernel in `processes` fresh processes; nothing is stored. Raises BackendError."""
    seen: list[list[Timed]] = [[] for _ in kernels]
    for seed in range(processes):
        for index, timed in backend.time_kernels(kernels, threads, runs, seed):
            seen[index].append(timed)
    return [gather(timed) for timed in seen]
