"""The last stages: time and judge the written file, and put the artefact together."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from hwprune.export.narrow import narrowed
from hwprune.graph.cost import macs, params
from hwprune.graph.read import to_proto
from hwprune.latency.measure import CONTENDED
from hwprune.network.operators import untranslated
from hwprune.progress import Progress
from hwprune.report.schema import (
    Alternative,
    Bounds,
    Change,
    Latency,
    Quality,
    Report,
    Stage,
    Verdict,
)
from hwprune.stages import describing as describe
from hwprune.stages.building import Built
from hwprune.stages.cuts import cuts_section
from hwprune.stages.memory import peak_bytes
from hwprune.stages.nearest import time_that_keeps
from hwprune.stages.outcome import Outcome
from hwprune.stages.quality import drop_points, report_quality
from hwprune.stages.run import Run
from hwprune.stages.sources import Job
from hwprune.stages.timing import Comparison, judge
from hwprune.store.files import write_atomic
from hwprune.units import format_bytes
from hwprune.verify.outputs import file_outputs
from hwprune.verify.parity import Parity, parity

_PARITY_SAMPLES = 16
_LEAST_SQNR_DB = 20.0


@dataclass(frozen=True, slots=True)
class Checked:
    """The written file as it was found."""

    comparison: Comparison
    parity: Parity
    quality: Quality
    size_bytes: int
    memory_bytes: int


def time_file(run: Run, built: Built, looks: int = 2) -> Comparison:
    """Writes the result into the work folder and times it against the original (see `judge`)."""
    job, path, options = run.job, run.work / "model.onnx", run.job.options
    with run.progress.stage("export"):
        write_atomic(path, built.model.SerializeToString())

    def measure() -> Comparison:
        return judge(
            job.backend,
            run.work / "original.onnx",
            path,
            job.threads,
            options.limits.verify_seconds,
            run.budget,
            options.percentile,
            run.profile.original,
            looks,
        )

    with run.progress.stage("verify"):
        return run.timed(path, f"judge-{looks}", measure)


def check_file(
    job: Job, built: Built, comparison: Comparison, work: Path, progress: Progress
) -> Checked:
    """Judges the written file: against its twin, and on the evaluation split."""
    path = work / "model.onnx"
    with progress.stage("quality"):
        agreement = parity(built.twin, path, job.search_inputs(_PARITY_SAMPLES))
        quality = measure_quality(job, work / "original.onnx", path)
    memory = peak_bytes(job.subject, built.graph, built.plan.configuration.kernels)
    return Checked(comparison, agreement, quality, path.stat().st_size, memory)


def measure_quality(job: Job, original: Path, model: Path) -> Quality:
    """The file's quality on the evaluation split, which nothing before has seen."""
    data = job.splits.eval
    x = data.inputs(slice(0, len(data)))
    before = file_outputs(original, x, job.threads)
    after = file_outputs(model, x, job.threads)
    return report_quality(before, after, data.y, job.known)


def verdict_of(run: Run, checked: Checked, infeasible: bool) -> Verdict:
    """Every bound that was asked for must hold."""
    if infeasible:
        return "infeasible"
    timed = checked.comparison.verdict(run.budget, run.profile.original)
    return timed if timed != "met" or not broken_bounds(run.job, checked) else "missed"


def broken_bounds(job: Job, checked: Checked) -> list[str]:
    """What of --max-drop, --max-size and --max-memory does not hold, for people."""
    found = []
    drop, most = drop_points(checked.quality), job.options.max_drop
    if most is not None and drop is None:
        found.append(f"--max-drop {most:g}: quality is not known, so the bound cannot be checked")
    if most is not None and drop is not None and drop > most:
        found.append(f"{drop:.2f} points were lost, --max-drop allows {most:g}")
    size, largest = checked.size_bytes, job.options.max_size
    if largest is not None and size > largest:
        found.append(
            f"the file has {format_bytes(size)}, --max-size allows {format_bytes(largest)}"
        )
    memory, widest = checked.memory_bytes, job.options.max_memory
    if widest is not None and memory > widest:
        found.append(
            f"activations take {format_bytes(memory)}, --max-memory allows {format_bytes(widest)}"
        )
    return found


def nearest(run: Run, outcome: Outcome, checked: Checked) -> tuple[Alternative, ...]:
    """What would have to be given up, where something that was asked for does not hold."""
    most, lost = run.job.options.max_drop, drop_points(checked.quality)
    if outcome.nearest or outcome.losses is None or most is None or lost is None or lost <= most:
        return outcome.nearest
    with run.progress.stage("nearest"):
        found = time_that_keeps(run, outcome.losses, outcome.calibration)
    return () if found is None else (found,)


def make_report(
    run: Run,
    outcome: Outcome,
    built: Built,
    checked: Checked,
    near: tuple[Alternative, ...],
    spent: tuple[Stage, ...],
) -> Report:
    """The evidence."""
    job, profile, budget = run.job, run.profile, run.budget
    c = built.plan.configuration
    calibration = outcome.calibration
    if budget.ratio is not None:  # the clock may have moved since the search; the ratio has not
        moved = checked.comparison.original.p50 / profile.original.quiet
        calibration = replace(calibration, factor=calibration.factor * moved)
    predicted = run.predicted_ns(c, calibration)
    layers = profile.estimator.layer_ns(c, calibration)
    original = checked.comparison.original
    limit_ms = budget.resolve_ns(original.at(job.options.percentile)) / 1e6
    before = job.model.graph
    original_bytes = len(to_proto(before).SerializeToString())
    return Report(
        verdict=verdict_of(run, checked, outcome.infeasible),
        model=describe.model_section(job),
        target=describe.target_section(job),
        budget=Bounds(
            limit_ms,
            job.options.percentile,
            job.options.max_drop,
            job.options.max_size,
            budget.ratio,
            job.options.max_memory,
        ),
        latency_ms=Latency(
            original.percentiles(),
            checked.comparison.compiled.percentiles(),
            predicted / 1e6,
            outcome.reachable_ns / 1e6,
            checked.comparison.ratio,
        ),
        quality=checked.quality,
        size_bytes=Change(original_bytes, checked.size_bytes),
        macs=Change(macs(before), macs(built.graph)),
        params=Change(params(before), params(built.graph)),
        memory_bytes=Change(peak_bytes(job.subject, before, {}), checked.memory_bytes),
        layers=describe.layers_section(job, built.plan, built.graph, layers),
        frozen=describe.frozen_section(job),
        rewrites=job.choice.applied,
        cuts=cuts_section(run, outcome),
        search=outcome.search,
        stages=spent,
        nearest=near,
        warnings=(*_warnings(run, outcome, checked), *_narrow(built)),
        versions=describe.versions(),
    )


def _narrow(built: Built) -> Iterator[str]:
    """What activations of fewer bits than the kernels have cost."""
    if tensors := narrowed(built.model):
        yield (
            f"{len(tensors)} activations have fewer than 8 bits, for which this target has no "
            "kernels: they are computed in 8 bits, and each costs a Clip more (its time is in "
            "what was measured)"
        )


def _warnings(run: Run, outcome: Outcome, checked: Checked) -> tuple[str, ...]:
    job = run.job
    found = [*job.choice.notes, *run.profile.notes, *outcome.notes, *broken_bounds(job, checked)]
    if not job.known:
        found.append("no data were given: calibrated on noise, so the quality is not known")
    if not job.coupling.prunable:
        found.append("nothing in this network can be pruned: see `frozen` for the reasons")
    if alone := untranslated(job.graph):
        found.append(f"no torch twin, run by onnxruntime as they are: {', '.join(alone)}")
    weak = {o: db for o, db in checked.parity.sqnr_db.items() if db < _LEAST_SQNR_DB}
    found += [
        f"output {o}: file and torch twin agree to {db:.1f} dB only" for o, db in weak.items()
    ]
    share = checked.comparison.compiled.cpu_share
    if share < CONTENDED:
        found.append(f"the machine was busy: the network had {share:.0%} of its processor time")
    return tuple(found)
