"""What the stages after profiling share."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from hwprune.latency.calibrate import Calibration
from hwprune.plan import Configuration
from hwprune.progress import Progress
from hwprune.report.jsonio import from_json, to_json
from hwprune.stages.checkpoints import Checkpoints
from hwprune.stages.profiling import Profile
from hwprune.stages.sources import Job
from hwprune.stages.timing import Comparison
from hwprune.units import Budget

_NO_SLOWER = Budget(ratio=1.0)


@dataclass(frozen=True, slots=True)
class Run:
    """A job with its profile, its folder and somebody who watches."""

    job: Job
    profile: Profile
    checkpoints: Checkpoints
    progress: Progress

    @property
    def budget(self) -> Budget:
        """What was asked for; without a bound on time, to be no slower than the original."""
        return self.job.options.budget or _NO_SLOWER

    def under(self, budget: Budget) -> "Run":
        """The same run with another budget; what was measured before is shared."""
        job = replace(self.job, options=replace(self.job.options, budget=budget))
        return replace(self, job=job)

    @property
    def work(self) -> Path:
        """The run folder."""
        return self.checkpoints.folder

    def timed(self, file: Path, how: str, measure: Callable[[], Comparison]) -> Comparison:
        """What `measure` says of a file, or has said before this run was killed: a run that is
        resumed decides as it would have.
        """
        content = sha256(file.read_bytes()).hexdigest()[:16]
        key = self.checkpoints.turn(f"time-{content}-{how}")
        if (kept := self.checkpoints.take(key)) is not None:
            return from_json(Comparison, json.dumps(kept))
        found = measure()
        self.checkpoints.keep(key, json.loads(to_json(found)))
        return found

    def predicted_ns(self, c: Configuration, calibration: Calibration) -> float:
        """What the table says of any configuration, after measuring what it does not know yet."""
        self.profile.learn(c)
        return self.profile.estimator.latency_ns(c, calibration)

    def expected_ns(self, comparison: Comparison) -> float:
        """A candidate's p50 at the speed of the profile: the more careful of two figures.

        Its quiet time says what it takes while nobody slows the machine down; its p50 in turns
        with the original's what it takes on this machine as it is, where quiet may never come.
        """
        return max(self._quiet_ns(comparison), self._typical_ns(comparison))

    def _quiet_ns(self, comparison: Comparison) -> float:
        """Against a budget in milliseconds a machine that has become faster is taken as it is."""
        speed = self.profile.original.quiet / comparison.original.quiet
        return comparison.compiled.quiet * (speed if self.budget.ratio else min(1.0, speed))

    def _typical_ns(self, comparison: Comparison) -> float:
        before = self.profile.original
        if self.budget.ratio:
            return comparison.ratio * before.quiet
        return comparison.compiled.p50 * min(1.0, before.p50 / comparison.original.p50)

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
