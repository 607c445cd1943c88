"""Times of whole model files, and what may be claimed from them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hwprune.backend import Backend, Samples
from hwprune.latency.measure import UNSTEADY
from hwprune.report.schema import Percentiles, Verdict
from hwprune.units import Budget

PROCESSES = 3
_PATIENCE = 4.0  # times as long as asked for, for runs that nobody disturbs
_LEAST_RUNS = 5  # of those in a process


@dataclass(frozen=True, slots=True)
class Timing:
    """One model's latency, nanoseconds: the median over processes of each percentile.

    `spread` is (largest - smallest) / median of the process medians; `quiet` the p50 that may be
    expected when nobody else uses the machine; `undisturbed` the p50 of runs beside which nobody
    did, where the target can tell.
    """

    p50: float
    p90: float
    p99: float
    quiet: float
    spread: float
    cpu_share: float
    undisturbed: float | None = None

    def at(self, percentile: str) -> float:
        """The figure for 'p50', 'p90' or 'p99'."""
        return float(getattr(self, percentile))

    def percentiles(self) -> Percentiles:
        """As milliseconds, for the report."""
        return Percentiles(self.p50 / 1e6, self.p90 / 1e6, self.p99 / 1e6)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Original and candidate timed in turns; `ratios` are candidate over original by process."""

    original: Timing
    compiled: Timing
    ratios: tuple[float, ...]
    percentile: str

    @property
    def ratio(self) -> float:
        """Median ratio of the two, the figure that a shared machine disturbs least."""
        return float(np.median(self.ratios))

    def measured_ns(self, budget: Budget) -> float:
        """The candidate's latency; against a relative budget, by the ratio of paired runs."""
        if budget.ratio is not None:
            return self.ratio * self.original.at(self.percentile)
        return self.compiled.at(self.percentile)

    def used(self, budget: Budget) -> float:
        """Share of the budget that the candidate takes."""
        return self.measured_ns(budget) / budget.resolve_ns(self.original.at(self.percentile))

    def spread(self, budget: Budget) -> float:
        """By how much the processes disagree about `measured_ns`: (largest - smallest) / median."""
        if budget.ratio is not None:
            return float(np.ptp(self.ratios)) / self.ratio
        return self.compiled.spread

    def verdict(self, budget: Budget, usual: Timing | None = None) -> Verdict:
        """'noisy' if the processes disagree on which side of the budget the candidate is, or if it
        is over it only because the original, too, takes longer than `usual`.
        """
        used = self.used(budget)
        disagree = self.compiled.spread > UNSTEADY and abs(used - 1) < self.compiled.spread / 2
        slower = 1.0 if usual is None or budget.ratio else self.original.p50 / usual.p50
        if disagree or 1 < used <= slower:
            return "noisy"
        return "met" if used <= 1 else "missed"


def compare(
    backend: Backend,
    original: Path,
    compiled: Path,
    threads: int,
    seconds: float,
    percentile: str,
    processes: int = PROCESSES,
) -> Comparison:
    """Times two files interleaved."""
    a, b = backend.time_models([original, compiled], threads, seconds, processes)
    return Comparison(summarise(a), summarise(b), _ratios(a, b, percentile), percentile)


def judge(
    backend: Backend,
    original: Path,
    compiled: Path,
    threads: int,
    seconds: float,
    budget: Budget,
    percentile: str,
    usual: Timing | None = None,
    looks: int = 2,
) -> Comparison:
    """As `compare`; what is not clearly met is timed once more, by twice as many processes.

    That second look counts: doubt is resolved by measuring better, not by choosing. With `looks`
    of 1 there is none.
    """
    for processes in (PROCESSES, 2 * PROCESSES)[:looks]:
        found = compare(backend, original, compiled, threads, seconds, percentile, processes)
        if found.verdict(budget, usual) == "met":
            break
    return found


def time_each(
    backend: Backend, models: Sequence[Path], threads: int, seconds: float, processes: int = 2
) -> list[Timing]:
    """Times several files in turns, once, with patience for undisturbed runs."""
    found = backend.time_models(models, threads, seconds, processes, _PATIENCE)
    return [summarise(s) for s in found]


def summarise(samples: Samples) -> Timing:
    """Percentiles per process, then their median over processes: never a mean."""
    by_process = np.array([np.percentile(runs, (20, 50, 90, 99)) for runs in samples.runs_ns])
    p20, *medians = by_process.T
    p50, p90, p99 = (float(np.median(m)) for m in medians)
    # A neighbour slows runs down for seconds on end, but hardly all of them in all processes.
    quiet = float(p20.min() * (medians[0] / p20).min())
    spread = float(np.ptp(medians[0]) / p50)
    share = float(np.median(samples.cpu_share))
    return Timing(p50, p90, p99, quiet, spread, share, undisturbed_ns(samples))


def undisturbed_ns(samples: Samples) -> float | None:
    """Median over processes of the p50 of undisturbed runs; None where nobody had enough."""
    enough = [runs for runs in samples.undisturbed_ns if len(runs) >= _LEAST_RUNS]
    return float(np.median([np.median(runs) for runs in enough])) if enough else None


def _ratios(original: Samples, compiled: Samples, percentile: str) -> tuple[float, ...]:
    q = float(percentile.removeprefix("p"))
    pairs = zip(original.runs_ns, compiled.runs_ns, strict=True)
    return tuple(float(np.percentile(b, q) / np.percentile(a, q)) for a, b in pairs)
