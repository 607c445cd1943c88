"""The whole product: `compile`, and `verify` and `inspect` that open two of its stages up."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from hwprune.errors import StoreError
from hwprune.export.load import load
from hwprune.export.write import write_artifact
from hwprune.frontend.models import load_model
from hwprune.graph.cost import macs, node_macs, params
from hwprune.graph.coupling import couple
from hwprune.progress import Progress, Silent
from hwprune.registry import get_backend
from hwprune.report.html import write_html
from hwprune.report.inspection import BranchInfo, GroupInfo, Inspection, VerifyResult
from hwprune.report.schema import Latency, Report
from hwprune.stages.building import Built, build
from hwprune.stages.finishing import Checked, check_file, make_report
from hwprune.stages.options import CompileOptions
from hwprune.stages.outcome import Outcome, decide
from hwprune.stages.profiling import Profile, profile
from hwprune.stages.recording import Recorder
from hwprune.stages.searching import affordable_samples, make_evaluator
from hwprune.stages.sources import Job, load_job, out_dir
from hwprune.stages.timing import compare
from hwprune.units import Budget

__all__ = ["CompileOptions", "compile", "inspect", "verify"]


def compile(options: CompileOptions, progress: Progress | None = None) -> Report:
    """Runs all stages and writes the artefact into the output folder.

    Raises HwpruneError; a budget out of reach is no error but a report with its verdict.
    """
    recorder = Recorder(progress or Silent())
    with recorder.stage("import"):
        job = load_job(options)
    out = out_dir(options, job.model.name)
    work = out / "run"
    work.mkdir(parents=True, exist_ok=True)
    with recorder.stage("profile", total=1) as stage:
        known = profile(job, work, stage)
    outcome = decide(job, known, options.budget, work, recorder)
    built = _build(job, outcome, recorder)
    checked = check_file(job, built, work, recorder)
    report = make_report(job, known, outcome, built, checked, options.budget, recorder.spent)
    _write(out, work, built, report)
    return report


def _build(job: Job, outcome: Outcome, progress: Progress) -> Built:
    if outcome.losses is not None:
        return build(job, outcome.losses.evaluator, outcome.plan, progress)
    return build(job, make_evaluator(job, {}, affordable_samples(job)), outcome.plan, progress)


def _write(out: Path, work: Path, built: Built, report: Report) -> None:
    write_artifact(
        out,
        built.graph,
        {
            "model.onnx": (work / "model.onnx").read_bytes(),
            "plan.json": built.plan.to_json().encode(),
            "report.html": write_html(report).encode(),
            "report.json": report.to_json().encode(),
        },
    )


def verify(out_dir: Path, progress: Progress | None = None) -> VerifyResult:
    """Times a finished artefact against its original again, and checks its parity."""
    raise NotImplementedError


def inspect(
    model: str | None,
    weights: Path | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> Inspection:
    """What could be pruned in a network, before anything is measured."""
    loaded = load_model(model, weights, shapes or {})
    coupling = couple(loaded.graph)
    nodes = {n.name: node_macs(n) for n in loaded.graph.nodes}
    total = max(1, sum(nodes.values()))

    def share(names: tuple[str, ...]) -> float:
        return sum(nodes.get(n, 0) for n in dict.fromkeys(names)) / total

    groups = tuple(
        GroupInfo(
            g.name, g.width, 1, share((*g.producers, *g.consumers)), g.producers, g.consumers, g.frozen
        )
        for g in coupling.groups
    )
    branches = tuple(BranchInfo(b.name, b.nodes, share(b.nodes)) for b in coupling.branches)
    inputs = {i.name: tuple(int(d) for d in i.shape) for i in loaded.graph.inputs}
    return Inspection(
        loaded.name, loaded.source, inputs, macs(loaded.graph), params(loaded.graph), groups, branches
    )
