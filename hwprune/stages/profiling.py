"""The profile stage: the search space of this network on this target, priced by measured rows."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import onnx

from hwprune.backend import Kernel
from hwprune.export.lower import lower
from hwprune.export.placeholder import placeholder_encodings
from hwprune.graph.read import to_proto
from hwprune.latency.estimate import Calibration, Estimator
from hwprune.latency.fill import fill
from hwprune.latency.kernels import KernelGraph
from hwprune.latency.space import SearchSpace, build_space
from hwprune.latency.steps import Steps, find_step, probes
from hwprune.latency.table import LatencyTable
from hwprune.plan import Configuration
from hwprune.progress import Stage
from hwprune.stages.checkpoints import Checkpoints
from hwprune.stages.sources import Job
from hwprune.stages.timing import Timing, time_each
from hwprune.store.files import write_atomic
from hwprune.store.paths import table_path

_RUNS, _PROCESSES = 16, 2
_ANCHOR_SECONDS = 1.5


@dataclass(frozen=True, slots=True)
class Profile:
    """What is known about time before any search."""

    estimator: Estimator
    space: SearchSpace
    steps: Steps
    calibration: Calibration
    original: Timing
    rows_measured: int
    notes: tuple[str, ...] = ()  # about the table, for the user


def profile(job: Job, checkpoints: Checkpoints, stage: Stage) -> Profile:
    """Measures what the table misses for this network's space, and two anchors to calibrate it."""
    allowed = job.options.allow_foreign_table
    with LatencyTable(table_path(), job.backend.identity(), job.threads, allowed) as table:
        steps, probed = find_steps(job, table, stage)
        network = KernelGraph(job.graph, job.coupling, job.capabilities)
        space = build_space(network, steps.fine, steps.coarse)
        estimator = Estimator(network, space, steps.block)
        wanted = estimator.wanted()
        rows = _fill(job, table, wanted, stage)
        estimator.load(table.get_many(wanted).get)
        notes = table.notes
    stage.update(1, "timing the original")
    calibration, original = _calibrated(job, estimator, space, checkpoints)
    return Profile(estimator, space, steps, calibration, original, probed + rows, notes)


def _calibrated(
    job: Job, estimator: Estimator, space: SearchSpace, checkpoints: Checkpoints
) -> tuple[Calibration, Timing]:
    """The anchors, or what they were when this run was started."""
    kept = checkpoints.take("profile")
    if kept is not None:
        return Calibration(**kept["calibration"]), Timing(**kept["original"])
    calibration, original = _anchor(job, estimator, space, checkpoints.folder)
    document = {"calibration": asdict(calibration), "original": asdict(original)}
    checkpoints.keep("profile", document, "original.onnx")
    return calibration, original


def find_steps(job: Job, table: LatencyTable, stage: Stage) -> tuple[Steps, int]:
    """The channel steps of each precision the target runs convolutions in."""
    precisions = ("fp32", *sorted(job.capabilities.precisions.get("Conv", ())))
    sweeps = {p: probes(p) for p in precisions}
    rows = _fill(job, table, [k for sweep in sweeps.values() for k in sweep], stage)
    found = {}
    for precision, sweep in sweeps.items():
        times = table.get_many(sweep)
        found[precision] = find_step({k.output[1]: t for k, t in times.items()})
    return Steps(found), rows


def _fill(job: Job, table: LatencyTable, kernels: Sequence[Kernel], stage: Stage) -> int:
    def report(done: int, total: int, text: str) -> None:
        stage.update(done / max(1, total), text)

    return fill(table, job.backend, kernels, _RUNS, _PROCESSES, report).measured


def _anchor(
    job: Job, estimator: Estimator, space: SearchSpace, work: Path
) -> tuple[Calibration, Timing]:
    """Times the untouched network in fp32 and in int8, and blames the kernels for the rest."""
    plain = Configuration()
    quantised = Configuration(kernels={n: options[-1] for n, options in space.kernels.items()})
    original, rewritten = work / "original.onnx", work / "rewritten.onnx"
    write_atomic(original, to_proto(job.model.graph).SerializeToString())
    write_atomic(rewritten, to_proto(job.graph).SerializeToString())
    files = [original, rewritten]
    if quantised.kernels:
        files.append(work / "anchor-int8.onnx")
        write_atomic(files[-1], placeholder_model(job, quantised.kernels).SerializeToString())
    timings = time_each(job.backend, files, job.threads, _ANCHOR_SECONDS)
    bare = Calibration({})
    extra: dict[str, float] = {}
    for c, timing in zip((plain, quantised), timings[1:], strict=False):
        _blame(estimator.kernels(c), timing.quiet - estimator.latency_ns(c, bare), extra)
    return Calibration(extra), timings[0]


def _blame(kernels: Sequence[Kernel], missing_ns: float, extra: dict[str, float]) -> None:
    """Spreads what the rows miss over the kernels of the precision not blamed yet."""
    count: dict[str, int] = {}
    for kernel in kernels:
        count[kernel.precision] = count.get(kernel.precision, 0) + 1
    known = sum(extra.get(p, 0.0) * n for p, n in count.items())
    new = {p: n for p, n in count.items() if p not in extra}
    for precision in new:
        extra[precision] = (missing_ns - known) / sum(new.values())


def placeholder_model(job: Job, kernels: Mapping[str, str]) -> onnx.ModelProto:
    """The untouched network lowered with made-up ranges: right in time, meaningless in values."""
    encodings = placeholder_encodings(job.graph, kernels, job.capabilities)
    return lower(job.graph, kernels, encodings, job.capabilities)
