"""What the stages after profiling share."""

from dataclasses import dataclass
from pathlib import Path

from hwprune.progress import Progress
from hwprune.stages.checkpoints import Checkpoints
from hwprune.stages.profiling import Profile
from hwprune.stages.sources import Job
from hwprune.stages.timing import Comparison
from hwprune.units import Budget


@dataclass(frozen=True, slots=True)
class Run:
    """A job with its profile, its folder and somebody who watches."""

    job: Job
    profile: Profile
    checkpoints: Checkpoints
    progress: Progress

    @property
    def budget(self) -> Budget:
        """What was asked for."""
        return self.job.options.budget

    @property
    def work(self) -> Path:
        """The run folder."""
        return self.checkpoints.folder

    def used(self, comparison: Comparison) -> float:
        """Share of the budget that a candidate takes when the machine is not slowed down."""
        return comparison.used(self.budget, self.profile.original)

    @property
    def limit_ns(self) -> float:
        """The p50 to plan for: a bound on another percentile is scaled by the original's spread."""
        original = self.profile.original
        percentile = self.job.options.percentile
        limit = self.budget.resolve_ns(original.at(percentile))
        return limit * original.p50 / original.at(percentile)
