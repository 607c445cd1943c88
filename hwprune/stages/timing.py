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


@dataclass(frozen=True, slots=True)
class Timing:
    """One model's latency, nanoseconds: the median over processes of each percentile.

    `spread` is (largest - smallest) / median of the process medians.
    """

    p50: float
    p90: float
    p99: float
    spread: float
    cpu_share: float

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

    @property
    def ratio_spread(self) -> float:
        """(largest - smallest) / median of the processes' ratios."""
        return float(np.ptp(self.ratios) / self.ratio)

    def measured_ns(self, budget: Budget, usual: Timing | None = None) -> float:
        """The candidate's latency; against a relative budget, by the ratio of paired runs.

        With `usual`, what the original takes at other times, it is what the candidate would take
        when the machine is as fast as it has been seen to be.
        """
        original = self.original.at(self.percentile)
        if usual is not None:
            return self.ratio * min(original, usual.at(self.percentile))
        if budget.ratio is not None:
            return self.ratio * original
        return self.compiled.at(self.percentile)

    def used(self, budget: Budget, usual: Timing | None = None) -> float:
        """Share of the budget that the candidate takes; `usual` as in `measured_ns`."""
        original = self.original.at(self.percentile)
        if usual is not None:
            original = min(original, usual.at(self.percentile))
        return self.measured_ns(budget, usual) / budget.resolve_ns(original)

    def verdict(self, budget: Budget, usual: Timing | None = None) -> Verdict:
        """'noisy' if the processes disagree on which side of the budget the candidate is, or if it
        is over it only because the original, too, takes longer than `usual`.
        """
        used = self.used(budget)
        disagree = self.compiled.spread > UNSTEADY and abs(used - 1) < self.compiled.spread / 2
        slowed = usual is not None and self.used(budget, usual) <= 1
        if disagree or (used > 1 and slowed):
            return "noisy"
        return "met" if used <= 1 else "missed"


def compare(
    backend: Backend,
    original: Path,
    compiled: Path,
    threads: int,
    seconds: float,
    percentile: str,
    tries: int = 2,
) -> Comparison:
    """Times two files interleaved; tries again, longer, while the processes disagree."""
    for attempt in range(tries):
        a, b = backend.time_models([original, compiled], threads, seconds * 2**attempt, PROCESSES)
        ratios = _ratios(a, b, percentile)
        found = Comparison(summarise(a), summarise(b), ratios, percentile)
        if max(found.original.spread, found.compiled.spread) <= UNSTEADY:
            break
    return found


def time_each(
    backend: Backend, models: Sequence[Path], threads: int, seconds: float, processes: int = 2
) -> list[Timing]:
    """Times several files in turns, once."""
    return [summarise(s) for s in backend.time_models(models, threads, seconds, processes)]


def summarise(samples: Samples) -> Timing:
    """Percentiles per process, then their median over processes: never a mean."""
    by_process = np.array([np.percentile(runs, (50, 90, 99)) for runs in samples.runs_ns])
    p50, p90, p99 = np.median(by_process, axis=0)
    spread = float(np.ptp(by_process[:, 0]) / p50)
    return Timing(float(p50), float(p90), float(p99), spread, float(np.median(samples.cpu_share)))


def _ratios(original: Samples, compiled: Samples, percentile: str) -> tuple[float, ...]:
    q = float(percentile.removeprefix("p"))
    pairs = zip(original.runs_ns, compiled.runs_ns, strict=True)
    return tuple(float(np.percentile(b, q) / np.percentile(a, q)) for a, b in pairs)
