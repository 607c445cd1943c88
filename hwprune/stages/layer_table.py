"""`hwprune profile`: the table filled for one network, or for many, and what it says."""

import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hwprune.backend import RUN, Kernel
from hwprune.frontend.models import load_model
from hwprune.graph.coupling import couple
from hwprune.graph.safety import MAX_BYTES
from hwprune.latency.calibrate import Calibration
from hwprune.latency.estimator import Estimate, Estimator
from hwprune.latency.kernels import CALL, link_part, step_part
from hwprune.latency.predict import Predictor
from hwprune.latency.space import build_space
from hwprune.latency.sweeps import all_classes, sweep, teeth_of, usual_convolutions
from hwprune.latency.table import LatencyTable
from hwprune.plan import Configuration
from hwprune.progress import Progress, Silent
from hwprune.registry import get_backend
from hwprune.report.grid import ClassSteps, Grid
from hwprune.report.layers import LayerRow, LayerTable
from hwprune.stages.profiling import (
    Rows,
    find_steps,
    for_any_plan,
    priced,
    reporting,
    trials,
    whole_plans,
)
from hwprune.stages.rewriting import choose
from hwprune.stages.subject import Subject
from hwprune.stages.trial_plans import as_built, extremes
from hwprune.store.paths import table_path


@dataclass(frozen=True, slots=True)
class ProfileOptions:
    """Options of `hwprune profile`; see `hwprune profile --help` for each."""

    model: str | None = None
    weights: Path | None = None
    target: str = "cpu"
    threads: int | None = None
    batch: int = 1
    runtime: Mapping[str, str] = field(default_factory=dict)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    max_model_size: int = MAX_BYTES
    allow_foreign_table: bool = False
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Profiled:
    """A network with priced rows: what tables, plots and estimates are made from."""

    table: LayerTable
    estimator: Estimator
    calibration: Calibration


def profile_model(options: ProfileOptions, progress: Progress) -> Profiled:
    """Measures what the table misses for a network and tells where its time goes.

    Raises:
        UsageError, ModelError: An option or the model cannot be used.
        BackendError: The target cannot be measured.
        StoreError: The table cannot be written.
    """
    begin = time.monotonic()
    name, subject = _subject(options)
    with progress.stage("rewrite", total=1) as stage:
        subject = choose(subject, stage).carried_out(subject)
    with progress.stage("profile") as stage, subject.table() as table:
        rows = Rows(table, subject.backend, reporting(stage))
        steps = find_steps(subject.capabilities, rows)
        network = subject.network()
        searched = Estimator(network, build_space(network, steps.fine, steps.coarse))
        rows.of(searched.wanted())  # what `hwprune compile` will ask for
        estimator = for_any_plan(network, steps.coarse, subject.seed)
        priced(estimator, subject.capabilities.layouts, rows, sweeping=True)
        plans = trials(estimator, searched.space, rows, subject.seed, anywhere=True)
        used, notes = len(estimator.wanted()), rows.notes
    with progress.stage("whole plans"), tempfile.TemporaryDirectory() as folder:
        calibration, _, plain = whole_plans(subject, estimator, plans, Path(folder))
        foreseen = _foreseen(subject, estimator, extremes(estimator.space), Path(folder))
    layers, total = _layers(subject, estimator, calibration)
    identity = subject.backend.identity()
    return Profiled(
        LayerTable(
            name,
            options.target,
            identity.device,
            identity.runtime,
            subject.threads,
            int(subject.graph.inputs[0].shape[0]),
            layers,
            total.ns,
            total.deviation,
            plain.p50,
            rows.measured,
            used,
            time.monotonic() - begin,
            foreseen,
            notes,
        ),
        estimator,
        calibration,
    )


def predictor(
    model: str | None = None,
    target: str = "cpu",
    progress: Progress | None = None,
    **options: Any,
) -> Predictor:
    """What a network takes on a target, for any plan of it; measures what the table misses.

    Args:
        model: A .onnx file, a package.module:factory or a bundled name.
        target: As on the command line.
        progress: Told what is measured, which may take minutes: `hwprune.progress.progress_on`
            makes one of a stream.
        options: The other fields of `ProfileOptions`.

    Raises:
        UsageError, ModelError, BackendError, StoreError: As `hwprune profile`.
    """
    found = profile_model(ProfileOptions(model, target=target, **options), progress or Silent())
    return Predictor(found.estimator, found.calibration)


def profile_grid(options: ProfileOptions, progress: Progress) -> Grid:
    """Measures what all networks on a target share: the steps of its kernels, and convolutions of
    usual sizes.

    Raises:
        BackendError: The target cannot be measured.
        StoreError: The table cannot be written.
    """
    begin = time.monotonic()
    backend = get_backend(options.target, options.runtime)
    able, threads = backend.capabilities(), options.threads or backend.default_threads()
    identity, foreign = backend.identity(), options.allow_foreign_table
    with (
        progress.stage("profile") as stage,
        LatencyTable(table_path(), identity, threads, foreign) as table,
    ):
        rows = Rows(table, backend, reporting(stage))
        sweeps = {c: sweep(c, able.layouts) for c in all_classes(able)}
        swept = rows.of([k for kernels in sweeps.values() for k in kernels.values()])
        usual = rows.of(usual_convolutions(able, options.batch))
        steps = tuple(
            ClassSteps(*name, t.period, t.heights, t.step, t.slowdown, t.grain, t.least)
            for name, t in teeth_of(sweeps, swept).items()
        )
        return Grid(
            options.target,
            identity.device,
            identity.runtime,
            threads,
            steps,
            len(swept) + len(usual),
            rows.measured,
            time.monotonic() - begin,
            rows.notes,
        )


def _subject(options: ProfileOptions) -> tuple[str, Subject]:
    backend = get_backend(options.target, options.runtime)
    model = load_model(
        options.model, options.weights, options.shapes, options.batch, options.max_model_size
    )
    return model.name, Subject(
        backend,
        backend.capabilities(),
        options.threads or backend.default_threads(),
        model.graph,
        model.graph,
        couple(model.graph),
        options.seed,
        options.allow_foreign_table,
    )


def _foreseen(
    subject: Subject, estimator: Estimator, plans: Sequence[Configuration], work: Path
) -> float:
    """Share of the nodes in the runtime's own graphs that the kernels of these plans stand for."""
    ran, foreseen = 0, 0
    for c in plans:
        path = work / "plan.onnx"
        model = as_built(subject.graph, estimator.network, c, subject.capabilities)
        path.write_bytes(model.SerializeToString())
        real = Counter(subject.backend.executed(path))
        kernels = [k for k in estimator.kernels(c) if k != RUN]
        named = Counter(n for names in subject.backend.names(kernels) for n in names)
        ran += max(real.total(), named.total())
        foreseen += (real & named).total()
    return foreseen / max(1, ran)


def _layers(
    subject: Subject, estimator: Estimator, calibration: Calibration
) -> tuple[tuple[LayerRow, ...], Estimate]:
    """A row for the call, then one per step; a boundary counts to the producer of its tensor."""
    c = Configuration()
    total = estimator.estimate(c, calibration)
    parts = estimator.network.by_part(c)
    of_step = {CALL: list(parts[CALL])}
    of_step |= {s.node: list(parts[step_part(s)]) for s in estimator.network.steps}
    for link in estimator.network.links:
        of_step[link.producer or CALL] += parts[link_part(link)]
    steps = {s.node: step_part(s) for s in estimator.network.steps} | {CALL: CALL}
    rows = []
    for node, kernels in of_step.items():
        found = [estimator.priced_kernel(k, calibration) for k in kernels]
        ns = sum(e.ns for e in found)
        deviation = sum(e.deviation**2 for e in found) ** 0.5
        names = tuple(" + ".join(n) for n in subject.backend.names(kernels))
        shapes, jumps = "", ""
        if kernels and node != CALL:
            shapes, jumps = _shapes(kernels[0]), estimator.steps_of(steps[node], kernels[0])
        rows.append(LayerRow(node, names, shapes, ns, deviation, ns / total.ns, jumps))
    return tuple(rows), total


def _shapes(kernel: Kernel) -> str:
    """Data and weights in, data out: '1x16x32x32, 16x16x3x3 -> 1x16x32x32'."""
    inputs = ", ".join("x".join(map(str, s)) for s in kernel.inputs[:2])
    return f"{inputs} -> {'x'.join(map(str, kernel.output))}"
