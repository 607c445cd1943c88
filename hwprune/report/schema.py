"""What a run found: `report.json`, schema 1. Fields may be added, never renamed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from hwprune.errors import StoreError
from hwprune.report import jsonio

SCHEMA = 1
Verdict = Literal["met", "missed", "infeasible", "noisy"]
EXIT_CODES: Mapping[Verdict, int] = {"met": 0, "missed": 4, "infeasible": 4, "noisy": 6}


@dataclass(frozen=True, slots=True)
class Model:
    """The network as it came in; `inputs` are the shapes it was compiled for."""

    name: str
    source: str
    inputs: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Target:
    """Where the times were taken, and how the runtime was set up.

    `runtime_options` are what `--runtime` takes, `session_options` what a deployment has to set,
    in the runtime's own names, for the times to hold there.
    """

    name: str
    device: str
    runtime: str
    threads: int
    batch: int
    runtime_options: Mapping[str, str] = field(default_factory=dict)
    session_options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What was asked for; `max_drop` is in points of the quality metric.

    `ratio` is the budget as a share of the original's time, if it was given so; `latency_ms` is
    then what it came to.
    """

    latency_ms: float
    percentile: str
    max_drop: float | None = None
    max_bytes: int | None = None
    ratio: float | None = None
    max_memory: int | None = None  # bytes


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Measured milliseconds of one run of the network."""

    p50: float
    p90: float
    p99: float | None = None


@dataclass(frozen=True, slots=True)
class Latency:
    """Measured before and after, what the table predicted for the result, and the table's bound.

    `ratio` is the result's time over the original's, the median over processes that ran them in
    turns: what a budget that was given as a ratio is held against.
    """

    original: Percentiles | None
    compiled: Percentiles | None
    predicted: float | None
    reachable: float | None = None  # the least latency any configuration has under the table
    ratio: float | None = None


@dataclass(frozen=True, slots=True)
class Quality:
    """Quality on data the compiler never saw; None where there was no data to tell.

    `top1` and `agreement` (with the original's own answers) are fractions of 1, `sqnr_db` is the
    least signal-to-quantisation-noise ratio over the outputs, all of which are in `outputs`.
    """

    metric: str
    original: float | None
    compiled: float | None
    samples: int
    split: str = "eval"
    kl: float | None = None  # mean KL from the original's answers to the result's, nats
    outputs: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Change:
    """A count before and after."""

    original: int
    compiled: int


@dataclass(frozen=True, slots=True)
class Layer:
    """A node with weights: (input, output) channels before and after, and how it runs.

    A layer of a dropped branch has kept (0, 0) and costs nothing.
    """

    name: str
    op: str
    channels: tuple[int, int]
    kept: tuple[int, int]
    kernel: str
    weight_bits: int
    act_bits: int
    predicted_us: float


@dataclass(frozen=True, slots=True)
class Cut:
    """A group of channels that lost some: what that bought, and what it is thought to cost.

    `whole_us` and `whole_loss` are the predicted time and the estimated loss (nats) that having all
    channels again would add and save; `step_us` and `step_loss` those of the next width on offer.
    """

    name: str
    width: int
    kept: int
    whole_us: float
    whole_loss: float
    step: int
    step_us: float
    step_loss: float


@dataclass(frozen=True, slots=True)
class AppliedRewrite:
    """An exact rewrite that was kept; `what` it does, in words.

    `ratio` is the time of the whole network after over before, timed in turns, in whichever of
    fp32 and int8 is the faster one.
    """

    name: str
    what: str
    ratio: float


@dataclass(frozen=True, slots=True)
class Frozen:
    """A group of channels that had to keep its width, and why."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Alternative:
    """A bound of the command line ('budget': ms, 'max_size' and 'max_memory': bytes) at about which
    everything else that was asked for would hold, as predicted.
    """

    bound: str
    value: float


@dataclass(frozen=True, slots=True)
class Trial:
    """A candidate that was evaluated: its predicted time, and its loss (nats)."""

    latency_ms: float
    loss: float


@dataclass(frozen=True, slots=True)
class Search:
    """How the configuration was found; `best_so_far` is the least loss after each evaluation,
    `trials` the evaluations of the last search in their order.
    """

    strategy: str
    evaluations: int
    best_so_far: tuple[float, ...] = ()
    trials: tuple[Trial, ...] = ()


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of the run; `resumed` if it was taken from an earlier run."""

    name: str
    seconds: float
    resumed: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """The evidence that goes with the compiled file."""

    verdict: Verdict
    model: Model
    target: Target
    budget: Bounds
    latency_ms: Latency
    quality: Quality
    size_bytes: Change
    macs: Change
    params: Change
    memory_bytes: Change | None = None  # activations at the step that has most of them at once
    layers: tuple[Layer, ...] = ()
    frozen: tuple[Frozen, ...] = ()
    rewrites: tuple[AppliedRewrite, ...] = ()
    cuts: tuple[Cut, ...] = ()
    search: Search = Search("none", 0)
    stages: tuple[Stage, ...] = ()
    nearest: tuple[Alternative, ...] = ()
    warnings: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    artifacts: Mapping[str, str] = field(default_factory=lambda: {"onnx": "model.onnx"})
    packed_bytes: int | None = None  # of model.hwp, where one was asked for
    schema: int = SCHEMA

    @property
    def exit_code(self) -> int:
        """The process' exit status for this verdict."""
        return EXIT_CODES[self.verdict]

    def measured_ms(self) -> float | None:
        """The compiled network's latency at the budget's percentile, None if it was not timed."""
        return getattr(self.latency_ms.compiled, self.budget.percentile, None)

    def dominating(self, count: int = 5) -> tuple[Layer, ...]:
        """The layers that cost most under the table, slowest first."""
        return tuple(sorted(self.layers, key=lambda layer: -layer.predicted_us)[:count])

    def to_json(self) -> str:
        """Canonical JSON: equal reports give equal bytes."""
        return jsonio.to_json(self)

    @classmethod
    def from_json(cls, text: str) -> "Report":
        """Reads `to_json` back. Raises StoreError for anything else."""
        report = jsonio.from_json(cls, text)
        if report.schema != SCHEMA:
            raise StoreError(f"report has schema {report.schema}, this hwprune reads {SCHEMA}")
        return report

    @classmethod
    def read(cls, out_dir: Path) -> "Report":
        """The report of the run that finished in a folder. Raises StoreError if none did."""
        path = out_dir / "report.json"
        if not path.is_file():
            raise StoreError(
                f"{out_dir} holds no report.json: no run has finished there",
                f"finish it with hwprune compile ... --out {out_dir}",
            )
        return cls.from_json(path.read_text(encoding="utf-8", errors="replace"))
