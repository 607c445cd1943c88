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

    def expected_ns(self, comparison: Comparison) -> float:
        """A candidate's p50 while nobody slows the machine down, at the speed of the profile.

        Against a budget in milliseconds a machine that has become faster is taken as it is.
        """
        speed = self.profile.original.quiet / comparison.original.quiet
        return comparison.compiled.quiet * (speed if self.budget.ratio else min(1.0, speed))

    def used(self, comparison: Comparison) -> float:
        """Share of the budget that a candidate is expected to take."""
        return self.expected_ns(comparison) / self.limit_ns

    @property
    def limit_ns(self) -> float:
        """The p50 to plan for: a bound on another percentile is scaled by the original's spread."""
        original = self.profile.original
        if self.budget.ratio is not None:
            return self.budget.ratio * original.quiet
        limit = self.budget.resolve_ns(original.p50)
        return limit * original.p50 / original.at(self.job.options.percentile)
