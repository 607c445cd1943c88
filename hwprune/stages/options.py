"""What a compile run is asked to do, and what each effort may spend."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hwprune.errors import UsageError
from hwprune.graph.safety import MAX_BYTES
from hwprune.registry import known_method, unknown
from hwprune.units import Budget

JOINT = "joint"  # the search that trains: it knows bytes, and no table


@dataclass(frozen=True, slots=True)
class Effort:
    """Limits of one effort: search evaluations and seconds, candidates that are repaired
    thoroughly before one is chosen, training epochs, timing seconds.
    """

    evaluations: int
    search_seconds: float
    finalists: int
    epochs: int
    verify_seconds: float


EFFORTS = {
    "quick": Effort(evaluations=40, search_seconds=60, finalists=4, epochs=0, verify_seconds=2.0),
    "standard": Effort(
        evaluations=100, search_seconds=300, finalists=8, epochs=1, verify_seconds=4.0
    ),
    "thorough": Effort(
        evaluations=300, search_seconds=1800, finalists=16, epochs=5, verify_seconds=8.0
    ),
}


@dataclass(frozen=True, slots=True)
class DataOptions:
    """Which data to read, and how images are normalised."""

    data: str | None = None
    train_data: str | None = None
    eval_data: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    scale: float | None = None
    seed: int = 0

    @property
    def given(self) -> bool:
        """Whether any are named."""
        return any((self.data, self.train_data, self.eval_data))


@dataclass(frozen=True, slots=True)
class CompileOptions:
    """Options of `hwprune compile`; see `hwprune compile --help` for each."""

    budget: Budget | None = None
    model: str | None = None
    weights: Path | None = None
    data: str | None = None
    train_data: str | None = None
    eval_data: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    scale: float | None = None
    target: str = "cpu"
    percentile: str = "p50"
    max_drop: float | None = None
    max_size: int | None = None
    max_memory: int | None = None
    pareto: int | None = None
    max_model_size: int = MAX_BYTES
    threads: int | None = None
    batch: int = 1
    runtime: Mapping[str, str] = field(default_factory=dict)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    effort: str = "quick"
    epochs: int | None = None
    train_minutes: float | None = None
    schedule: str = "one-shot"
    recipe: Mapping[str, str] = field(default_factory=dict)
    search: str = "bo"
    criterion: str = "obs"
    saliency: str = "measured"
    sensitivity: str = "kl"
    out: Path | None = None
    seed: int = 0
    force: bool = False
    evaluations: int | None = None
    storage: str | None = None
    study: str | None = None
    allow_foreign_table: bool = False
    pack: bool = False

    @property
    def limits(self) -> Effort:
        """The effort's limits. Raises UsageError for an unknown effort."""
        if self.effort not in EFFORTS:
            raise unknown("effort", self.effort, EFFORTS)
        return EFFORTS[self.effort]

    @property
    def data_options(self) -> DataOptions:
        """The data alone."""
        named = (self.data, self.train_data, self.eval_data)
        return DataOptions(*named, self.mean, self.std, self.scale, self.seed)

    @property
    def training_epochs(self) -> int:
        """Epochs of recovery training: `--epochs`, or the effort's."""
        return self.limits.epochs if self.epochs is None else self.epochs

    @property
    def trains(self) -> bool:
        """Whether the network is trained after it was cut."""
        return self.train_minutes is not None or self.training_epochs > 0

    def check(self) -> None:
        """Raises UsageError for values no run could use."""
        if self.percentile not in ("p50", "p90", "p99"):
            raise unknown("percentile", self.percentile, ("p50", "p90", "p99"))
        asked = (self.budget, self.max_drop, self.max_size, self.max_memory, self.pareto)
        if all(a is None for a in asked):
            raise UsageError(
                "nothing is asked for",
                "give --budget 10ms, --max-drop 1, --max-size 500kB, --max-memory 200kB, or "
                "--pareto 5",
            )
        for name in ("threads", "batch", "evaluations", "pareto"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"--{name} is {value}", "give a whole number of at least 1")
        if self.epochs is not None and self.epochs < 0:
            raise UsageError(f"--epochs is {self.epochs}", "0 means no training")
        if self.train_minutes is not None and not self.train_minutes > 0:
            raise UsageError(f"--train-minutes is {self.train_minutes:g}", "give more than 0")
        if self.train_minutes is not None and self.epochs is not None:
            raise UsageError("--epochs and --train-minutes both say how long to train", "give one")
        known_method("schedule", self.schedule.partition(":")[0])
        if self.schedule != "one-shot" and not self.trains:
            raise UsageError(
                f"schedule {self.schedule} trains, and effort {self.effort} does not",
                "give --effort standard, --epochs 10 or --train-minutes 10",
            )
        if self.search == JOINT:
            self._check_joint()
        known_method("saliency", self.saliency)
        known_method("sensitivity", self.sensitivity)
        _ = self.limits

    def _check_joint(self) -> None:
        if self.max_size is None:
            raise UsageError(
                f"--search {JOINT} looks for the best network of a size, and none is given",
                "add --max-size 100kB; a --budget is then measured, not searched for",
            )
        if self.schedule != "one-shot":
            raise UsageError(f"--search {JOINT} has a schedule of its own", "leave --schedule out")
        if self.pareto is not None or self.storage is not None or self.study is not None:
            raise UsageError(
                f"--search {JOINT} is one training: it has no front and no trials to share",
                "leave --pareto, --storage and --study out",
            )
