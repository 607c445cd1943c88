"""From raw samples to the figures that decisions are made on."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from hwprune.backend import Samples

CONTENDED = 0.90  # CPU time over wall time below which a process did not have its cores
UNSTEADY = 0.10  # spread of process medians above which they do not agree (pyperf's limit)


@dataclass(frozen=True, slots=True)
class Statistic:
    """Nanoseconds of one thing, over all processes.

    `p50_ns`, `p20_ns` and `p90_ns` are medians over processes of each process' percentile;
    `spread` is the range of the process medians over their median; `cpu_share` the median share.
    """

    p50_ns: float
    p20_ns: float
    p90_ns: float
    spread: float
    cpu_share: float

    @property
    def contended(self) -> bool:
        """Whether others used the cores during the measurement."""
        return self.cpu_share < CONTENDED

    @property
    def unsteady(self) -> bool:
        """Whether the processes disagree."""
        return self.spread > UNSTEADY


def summarize(samples: Samples) -> Statistic:
    """Percentiles, spread and gates. Raises ValueError if there is no sample at all."""
    medians = _per_process(samples, 50)
    middle = median(medians)
    return Statistic(
        p50_ns=middle,
        p20_ns=median(_per_process(samples, 20)),
        p90_ns=median(_per_process(samples, 90)),
        spread=(max(medians) - min(medians)) / middle,
        cpu_share=median(samples.cpu_share) if samples.cpu_share else 1.0,
    )


def kernel_ns(samples: Samples) -> float:
    """The price of a latency-table row: the lowest over processes of each one's 20th percentile.

    The clock of a shared machine has two levels: medians moved by 1.5 times within minutes while
    the p20 stayed put. A low percentile names the fast level as long as a fifth of the runs saw it,
    and a process that never did is recognised by the others. What a whole run costs beyond the sum
    of such rows is calibrated on measured models, not here.
    """
    return min(_per_process(samples, 20))


def ratio(samples: Samples, reference: Samples) -> float:
    """How much slower than `reference` in the same interleaved measurement; median of processes."""
    both = zip(_per_process(samples, 20), _per_process(reference, 20), strict=True)
    return median(a / b for a, b in both)


def _per_process(samples: Samples, percentile: float) -> Sequence[float]:
    found = [float(np.percentile(runs, percentile)) for runs in samples.runs_ns if runs]
    if not found:
        raise ValueError("there are no samples to summarise")
    return found
