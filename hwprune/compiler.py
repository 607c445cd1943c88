"""The whole product: `compile`, and `verify`, which opens one of its stages up."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from hwprune.codec.packing import pack_exact
from hwprune.errors import StoreError, UsageError
from hwprune.export.load import load
from hwprune.export.write import write_artifact
from hwprune.frontend.arrays import inputs_of_graph, made_up
from hwprune.graph.read import read_graph
from hwprune.progress import Progress, Silent
from hwprune.registry import get_backend, known_target
from hwprune.report.figures import verdict
from hwprune.report.front import Front, front_of, write_front
from hwprune.report.html import write_html
from hwprune.report.inspection import VerifyResult
from hwprune.report.schema import Latency, Report
from hwprune.stages.building import Built, build
from hwprune.stages.checkpoints import Checkpoints, open_run
from hwprune.stages.finishing import check_file, make_report, nearest, time_file
from hwprune.stages.fitting import time_plan
from hwprune.stages.following import leading
from hwprune.stages.front import Settled, fastest_keeping, front_ratios
from hwprune.stages.jointly import settle_jointly
from hwprune.stages.memo import Memo
from hwprune.stages.options import JOINT, CompileOptions
from hwprune.stages.outcome import Outcome, decide, tighten
from hwprune.stages.profiling import profile
from hwprune.stages.recording import Recorder
from hwprune.stages.rewriting import rewrite
from hwprune.stages.run import Run
from hwprune.stages.sources import Job, load_job, out_dir
from hwprune.stages.timing import Comparison, judge
from hwprune.units import Budget
from hwprune.verify.parity import parity

_REPEATS = 2  # of the search, for a finished file that is over the budget
_EXACT_DB = 200.0  # stands for no noise at all: JSON has no infinity

_Opened = tuple[Job, Path, Checkpoints, Recorder]

__all__ = ["CompileOptions", "compile", "compile_for", "pareto", "verify"]


def compile(options: CompileOptions, progress: Progress | None = None) -> Report:
    """Runs all stages and writes the artefact into the output folder.

    Without a budget, the fastest network is looked for that keeps --max-drop; without that either,
    the best one that is no slower than the original.

    Raises HwpruneError; a budget out of reach is no error but a report with its verdict.
    """
    return _compiled(options, progress or Silent(), Memo())


def compile_for(
    targets: Sequence[str], options: CompileOptions, progress: Progress | None = None
) -> dict[str, Report]:
    """Compiles for several targets, each into a folder of its own below the output folder.

    Channel rankings and losses of networks are worked out once for all targets. Returns the reports
    by folder. Raises HwpruneError; UsageError where two targets have one name, or with --pareto.
    """
    folders = [known_target(t).label for t in targets]
    if len(set(folders)) < len(folders):
        raise UsageError(f"the targets {', '.join(targets)} are not distinct", "name each once")
    if options.pareto is not None:
        raise UsageError("--pareto is for one target", "run it once for each --target")
    out = options.out or Path("hwprune-out") / Path(options.model or "digits").stem
    memo, watch, found = Memo(), progress or Silent(), {}
    for target, folder in zip(targets, folders, strict=True):
        watch.note(f"target {target}")
        found[folder] = _compiled(replace(options, target=target, out=out / folder), watch, memo)
    return found


def _compiled(options: CompileOptions, progress: Progress, memo: Memo) -> Report:
    with _opened(options, progress, memo) as (job, out, checkpoints, recorder):
        if (kept := checkpoints.take("report")) is not None:
            recorder.note(f"{out} holds the finished result of this very run")
            return Report.from_json(kept)
        run = _profiled(job, checkpoints, recorder)
        if options.budget is None and options.max_drop is not None and options.search != JOINT:
            point = fastest_keeping(run, _settled)
            report = _finished(point.run, point.settled, out, recorder)
        else:
            report = _finished(run, _settled(run), out, recorder)
        checkpoints.keep("report", report.to_json())
        return report


def pareto(options: CompileOptions, progress: Progress | None = None) -> Front:
    """Compiles for `options.pareto` budgets along the front of time against quality.

    All share the table, the sensitivities and every evaluation; each gets a folder of its own below
    the output folder, and all of them `front.json` and `front.html`.

    Raises HwpruneError.
    """
    with _opened(options, progress or Silent(), Memo()) as (job, out, checkpoints, recorder):
        run = _profiled(job, checkpoints, recorder)
        reports: dict[str, Report] = {}
        for ratio in front_ratios(run, options.pareto or 1):
            folder = f"{ratio:.3g}x"
            kept = checkpoints.take(f"report-{folder}")
            if kept is None:
                under = run.under(Budget(ratio=ratio))
                report = _finished(under, _settled(under), out / folder, recorder)
                checkpoints.keep(f"report-{folder}", report.to_json())
            reports[folder] = Report.from_json(kept) if kept is not None else report
            recorder.note(f"{out / folder}: {verdict(reports[folder])}")
        front = front_of(reports)
        write_front(out, f"{job.model.name} on {options.target}", front)
        return front


@contextmanager
def _opened(options: CompileOptions, progress: Progress, memo: Memo) -> Iterator[_Opened]:
    """What the options name, read, and the output folder, locked for it."""
    recorder = Recorder(progress)
    with recorder.stage("import"):
        job = load_job(options, memo)
    out = out_dir(options, job.model.name)
    with open_run(out, options) as checkpoints:
        yield job, out, checkpoints, recorder


def _profiled(job: Job, checkpoints: Checkpoints, recorder: Recorder) -> Run:
    with recorder.stage("rewrite", total=1) as stage:
        job = rewrite(job, checkpoints, stage)
    with recorder.stage("profile", total=1) as stage:
        return Run(job, profile(job, checkpoints, stage), checkpoints, recorder)


def _finished(run: Run, settled: Settled, out: Path, recorder: Recorder) -> Report:
    """Checks and writes what was settled on."""
    outcome, built, comparison = settled
    checked = check_file(run.job, built, comparison, run.work, recorder)
    near = nearest(run, outcome, checked)
    spent = recorder.spent(run.checkpoints.resumed)
    report = make_report(run, outcome, built, checked, near, spent)
    model = (run.work / "model.onnx").read_bytes()
    files = {"model.onnx": model, "plan.json": built.plan.to_json().encode()}
    if run.job.options.pack:
        with recorder.stage("pack"):
            files["model.hwp"] = pack_exact(model).file
        artifacts = {**report.artifacts, "packed": "model.hwp"}
        report = replace(report, artifacts=artifacts, packed_bytes=len(files["model.hwp"]))
    _write(out, built, files, report)
    return report


def _settled(run: Run) -> Settled:
    """Searches, builds and times; while the finished file is over the budget, searches again.

    Before a training, which costs minutes, the untrained network must have been seen to fit.
    Where nothing is lost, a network with more room is found sooner than doubt is resolved.
    """
    if run.job.options.search == JOINT:
        return settle_jointly(run)
    outcome = decide(run)
    for left in reversed(range(_REPEATS + 1)):
        if run.job.options.trains and left:
            again = _missed(run, outcome, time_plan(run, outcome.plan))
            if again is not outcome:
                outcome = again
                continue
        with leading(run.job, outcome.plan):
            built = build(
                run.job, outcome.plan, run.progress, outcome.sampling, run.work, outcome.trained
            )
        looks = 1 if left and outcome.lossless else 2
        comparison = time_file(run, built, looks)
        again = _missed(run, outcome, comparison) if left else outcome
        if again is outcome:
            break
        outcome = again
    if looks == 1 and comparison.verdict(run.budget, run.profile.original) != "met":
        comparison = time_file(run, built)
    return outcome, built, comparison


def _missed(run: Run, outcome: Outcome, comparison: Comparison) -> Outcome:
    """What another search finds where `comparison` is over the budget; else the same outcome.

    Where nothing is lost, a doubtful verdict is reason enough: more room costs no quality.
    """
    verdict = comparison.verdict(run.budget, run.profile.original)
    if verdict == "met" or (verdict == "noisy" and not outcome.lossless):
        return outcome
    used = comparison.used(run.budget)
    run.progress.note(f"{used:.3f} of the budget, measured again: the search goes on")
    return tighten(run, outcome, comparison)


def _write(out: Path, built: Built, files: Mapping[str, bytes], report: Report) -> None:
    """All files of the artefact, or none."""
    reports = {"report.html": write_html(report), "report.json": report.to_json()}
    texts = {name: text.encode() for name, text in reports.items()}
    write_artifact(out, built.graph, {**files, **texts})


def verify(
    out_dir: Path, progress: Progress | None = None, target: str | None = None
) -> VerifyResult:
    """Times a finished artefact against its original again, and checks its parity.

    On the target that it was made for, or another; the runtime is set up as it was then.
    Raises StoreError if the folder holds no finished artefact.
    """
    watch = progress or Silent()
    report = Report.read(out_dir)
    runs = (folder / "run" / "original.onnx" for folder in (out_dir, out_dir.parent))
    original, compiled = next(filter(Path.is_file, runs), out_dir), out_dir / "model.onnx"
    for path in (original, compiled):
        if not path.is_file():
            raise StoreError(f"{path} is missing", "compile again, with --force")
    asked = report.budget
    budget = Budget(ratio=asked.ratio) if asked.ratio else Budget(asked.latency_ms * 1e6)
    with watch.stage("verify"):
        backend = get_backend(target or report.target.name, report.target.runtime_options)
        threads, percentile = report.target.threads, report.budget.percentile
        found = judge(backend, original, compiled, threads, 4.0, budget, percentile)
    with watch.stage("parity"):
        made = made_up(inputs_of_graph(read_graph(original)), 64, 0)
        x = tuple(map(torch.from_numpy, made.inputs(slice(0, len(made)))))
        agreement = parity(load(out_dir), compiled, x)
    noise = {o: min(max(db, -_EXACT_DB), _EXACT_DB) for o, db in agreement.sqnr_db.items()}
    latency = Latency(
        found.original.percentiles(),
        found.compiled.percentiles(),
        report.latency_ms.predicted,
        ratio=found.ratio,
    )
    return VerifyResult(found.verdict(budget), report.budget, latency, agreement.max_abs, noise)
