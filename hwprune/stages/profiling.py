"""The profile stage: the search space of this network on this target, priced by measured rows."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median

from hwprune.backend import RUN, Backend, Capabilities, Kernel, Layouts
from hwprune.graph.read import to_proto
from hwprune.latency.calibrate import Calibration, calibrate
from hwprune.latency.estimator import Estimator
from hwprune.latency.families import Families
from hwprune.latency.family import Class
from hwprune.latency.fill import Report, fill
from hwprune.latency.gates import RETRIES
from hwprune.latency.kernels import KernelGraph
from hwprune.latency.space import SearchSpace, build_space
from hwprune.latency.steps import Steps, find_step
from hwprune.latency.sweeps import sweep, teeth_of, worth_sweeping
from hwprune.latency.table import LatencyTable
from hwprune.latency.teeth import Teeth
from hwprune.plan import Configuration
from hwprune.progress import Stage
from hwprune.stages.checkpoints import Checkpoints
from hwprune.stages.sizes import offering_bits
from hwprune.stages.sources import Job
from hwprune.stages.subject import Subject
from hwprune.stages.timing import Timing, time_each
from hwprune.stages.trial_plans import as_built, drawn, extremes, scattered
from hwprune.store.files import write_atomic

_RUNS, _PROCESSES = 12, 3
_QUICK_RUNS, _QUICK_PROCESSES = 6, 2  # of a compile run: the closed loop looks at what matters
_QUICK_RETRIES = 1  # with one thread: with more, processes differ by where their cores are
_DOUBTFUL = 48  # members measured on top of the grids, where prices are the least certain
_UNALIGNED = 12  # widths per group, on the steps and between them
_SCATTERED, _DROPPED = 96, 0.3  # plans by chance; share of branches that a third of them have lost
_TRIALS = 6  # plans timed whole beside the two extremes
_TRIAL_SECONDS, _TRIAL_PROCESSES = 0.4, 2  # per plan and process


@dataclass(frozen=True, slots=True)
class Profile:
    """What is known about time before any search."""

    subject: Subject
    estimator: Estimator
    space: SearchSpace
    steps: Steps
    calibration: Calibration
    original: Timing
    rows_measured: int
    notes: tuple[str, ...] = ()  # about the table, for the user

    def configuration(self, assignment: Mapping[str, int]) -> Configuration:
        """What an assignment of the space's variables stands for, as the runtime would run it."""
        return self.estimator.network.settled(self.space.configuration(assignment))

    def learn(self, c: Configuration) -> None:
        """Measures the kernels of `c` that are unlike any that the space's tables hold: from afar,
        layouts may come out as no neighbours would have them.
        """
        if new := self.estimator.unknown(c):
            with self.subject.table() as table:
                rows = Rows(table, self.subject.backend, lambda *_: None, quick=True)
                self.estimator.add_rows(rows.of(list(dict.fromkeys(new))))


def profile(job: Job, checkpoints: Checkpoints, stage: Stage) -> Profile:
    """Measures what the table misses for this network's space, and whole plans to calibrate it."""
    subject = job.subject
    with subject.table() as table:
        rows = Rows(table, job.backend, reporting(stage), quick=True)
        steps = find_steps(job.capabilities, rows)
        network = subject.network()
        space = build_space(network, steps.fine, steps.coarse)
        estimator = priced(Estimator(network, space), job.capabilities.layouts, rows)
        plans = trials(estimator, space, rows, subject.seed)
        notes = rows.notes
    stage.update(1, "timing whole plans")
    calibration, original = _calibrated(subject, estimator, plans, checkpoints)
    if job.options.max_size is not None:
        space = offering_bits(space, network, job.capabilities.weight_bits)
    return Profile(subject, estimator, space, steps, calibration, original, rows.measured, notes)


def reporting(stage: Stage) -> Report:
    """Progress of `fill` as progress of `stage`."""
    return lambda done, total, text: stage.update(done / max(1, total), text)


class Rows:
    """Rows of the table, measured where they are missing; progress is that of all calls so far."""

    def __init__(
        self, table: LatencyTable, backend: Backend, report: Report, quick: bool = False
    ) -> None:
        self._table, self._backend, self._report = table, backend, report
        self._quick = quick
        self._done = 0  # measurements, in earlier calls
        self._asked: dict[Kernel, None] = {}
        self.measured = 0

    def known(self, kernels: Sequence[Kernel]) -> dict[Kernel, float]:
        """Nanoseconds of those that have a row already."""
        return self._table.get_many(kernels)

    def of(self, kernels: Sequence[Kernel]) -> dict[Kernel, float]:
        """Nanoseconds of every one of the kernels."""
        how = (_RUNS, _PROCESSES, RETRIES)
        if self._quick:
            how = (_QUICK_RUNS, _QUICK_PROCESSES, _QUICK_RETRIES if self._table.threads == 1 else 0)
        self.measured += self._filled(kernels, *how)
        return self.known(kernels)

    def mended(self, kernels: Sequence[Kernel]) -> dict[Kernel, float]:
        """As `of`, with another look at unsteady rows by as many processes as before: the machine
        may have been busy for that minute only. A quick look at rows has no time for this.
        """
        found = self.of(kernels)
        if self._quick:
            return found
        unsteady = [k for k, row in self._table.rows(kernels).items() if not row.steady]
        self._filled(unsteady, _RUNS, _PROCESSES, RETRIES + _PROCESSES)
        return self.known(kernels)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know; to be asked while the table is open."""
        rows = self._table.rows(self._asked).values()
        unsteady = sum(not row.steady for row in rows)
        if not unsteady:
            return self._table.notes
        why = "their processes disagree or had to share their cores"
        return *self._table.notes, f"{unsteady} of {len(rows)} rows are unsteady: {why}"

    def _filled(self, kernels: Sequence[Kernel], runs: int, processes: int, retries: int) -> int:
        """How many had to be measured."""
        before = self._done

        def report(done: int, total: int, text: str) -> None:
            self._done = before + done
            self._report(self._done, before + total, text)

        self._asked |= dict.fromkeys(kernels)
        table, backend = self._table, self._backend
        return fill(table, backend, kernels, runs, processes, retries, report)


def priced(estimator: Estimator, layouts: Layouts, rows: Rows, sweeping: bool = False) -> Estimator:
    """`estimator` with all it needs; see `learn`."""
    known, teeth = learn(estimator.families, layouts, rows, _DOUBTFUL, sweeping, [RUN])
    estimator.load(known, teeth)
    return estimator


def learn(
    families: Families,
    layouts: Layouts,
    rows: Rows,
    doubtful: int,
    sweeping: bool,
    others: Sequence[Kernel] = (),
) -> tuple[dict[Kernel, float], dict[Class, Teeth]]:
    """The rows that price `families`: their grids, then the `doubtful` members whose prices are the
    least certain; and the rows of `others`.

    With `sweeping` the steps of the kernels that do the work are measured, too, which widths off
    the steps are priced by; else those that are known are used.
    """
    sweeps = {c: sweep(c, layouts) for c in worth_sweeping(families)}
    look = rows.of if sweeping else rows.known
    teeth = teeth_of(sweeps, look([k for kernels in sweeps.values() for k in kernels.values()]))
    known = rows.of([*others, *families.wanted(teeth)])
    families.load(known, teeth)
    known |= rows.of(families.doubtful(doubtful))
    return rows.mended(list(known)), teeth


def for_any_plan(network: KernelGraph, coarse_step: int, seed: int) -> Estimator:
    """An estimator whose rows shall tell of plans of any widths, in any layouts; a third of those
    by chance have lost branches.
    """
    rng = random.Random(f"beyond {seed}")
    plans = [scattered(network, rng) for _ in range(_SCATTERED)]
    branches = network.coupling.branches
    for i in range(0, _SCATTERED, 3):
        dropped = frozenset(b.name for b in branches if rng.random() < _DROPPED)
        plans[i] = replace(plans[i], dropped=dropped)
    return Estimator(network, build_space(network, 1, coarse_step, _UNALIGNED), plans)


def find_steps(capabilities: Capabilities, rows: Rows) -> Steps:
    """The channel steps of each precision the target runs convolutions in."""
    found = {}
    for precision in ("fp32", *sorted(capabilities.precisions.get("Conv", ()))):
        layout = '"blocked"' if precision == "fp32" and capabilities.layouts.block > 1 else ""
        name: Class = ("Conv", precision, layout, "dense", "out")
        kernels = sweep(name, capabilities.layouts)
        times = rows.of(list(kernels.values()))
        found[precision] = find_step({count: times[k] for count, k in kernels.items()})
    return Steps(found)


def _calibrated(
    subject: Subject,
    estimator: Estimator,
    plans: Sequence[Configuration],
    checkpoints: Checkpoints,
) -> tuple[Calibration, Timing]:
    """What whole plans say, or what they said when this run was started."""
    kept = checkpoints.take("profile")
    if kept is not None:
        return Calibration(**kept["calibration"]), Timing(**kept["original"])
    calibration, original, _ = whole_plans(subject, estimator, plans, checkpoints.folder)
    document = {"calibration": asdict(calibration), "original": asdict(original)}
    checkpoints.keep("profile", document, "original.onnx")
    return calibration, original


def trials(
    estimator: Estimator, space: SearchSpace, rows: Rows, seed: int, anywhere: bool = False
) -> list[Configuration]:
    """Plans to be timed whole: of `space`, and of any widths if plans `anywhere` will be asked for.
    Their kernels that are unlike those that the tables hold (from afar, layouts come out
    differently) are measured.
    """
    rng = random.Random(seed)
    plans = [*extremes(space), *(drawn(space, rng) for _ in range(_TRIALS))]
    if anywhere:
        plans += [scattered(estimator.network, rng) for _ in range(_TRIALS)]
    new = dict.fromkeys(k for c in plans for k in estimator.unknown(c))
    estimator.add_rows(rows.of(list(new)))
    return plans


def whole_plans(
    subject: Subject, estimator: Estimator, plans: Sequence[Configuration], work: Path
) -> tuple[Calibration, Timing, Timing]:
    """Times the network as it came, as hwprune writes it, and as other plans, in turns.

    Leaves the network as it came in `work` as original.onnx. The timings are of the first two.
    """
    files = [work / "original.onnx", *(work / f"trial-{i}.onnx" for i in range(len(plans)))]
    write_atomic(files[0], to_proto(subject.original).SerializeToString())
    for path, c in zip(files[1:], plans, strict=True):
        model = as_built(subject.graph, estimator.network, c, subject.capabilities)
        write_atomic(path, model.SerializeToString())
    seconds = _TRIAL_SECONDS * len(files)
    timings = time_each(subject.backend, files, subject.threads, seconds, _TRIAL_PROCESSES)
    for path in files[1:]:
        path.unlink()
    return _calibration(estimator, plans, timings[1:]), timings[0], timings[1]


def _calibration(
    estimator: Estimator, plans: Sequence[Configuration], timings: Sequence[Timing]
) -> Calibration:
    """Of the p50s of this hour; where undisturbed times are known, these say which plan takes how
    long, as neighbours are there for seconds, and not beside all plans alike.
    """
    usual = [t.p50 for t in timings]
    quiet = [t.undisturbed for t in timings if t.undisturbed is not None]
    priced = [estimator.priced(c) for c in plans]
    if len(quiet) < len(usual):
        return calibrate(priced, usual)
    found = calibrate(priced, quiet)
    busier = median(p50 / ns for p50, ns in zip(usual, quiet, strict=True))
    return replace(found, factor=found.factor * busier)
