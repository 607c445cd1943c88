#!/usr/bin/env python3
"""How well the table predicts whole networks: random plans, built and timed, against predictions.

    python tools/bench_latency.py --work DIR [--shared ../shared/data] [--only TEXT] [--threads 1]
                                  [--plans 60] [--target cpu]

Every plan has widths of its own (a third on multiples of 8, a third of 4, a third of anything) and
runs fp32, int8 or a mix. The table is filled as `hwprune profile` does it, without these plans;
then they and the plans that calibrate are built, written and timed in turns. What is predicted is
the undisturbed time, the p50 of the runs beside which no neighbour slowed the pacemaker down (they
slow some kinds of kernels down more than others), and, in a line of its own, the p50 of that hour.
Files that were never run undisturbed are left out, unless they are most of them.
Beside it, on the same plans: the rows alone, sums of rows as if nothing were fused, sums of
onnxruntime's profiler over the very plans, a model proportional to MACs and one linear in MACs, and
one process measured against the others: what measuring itself is worth. Sums are scaled by the one
factor that suits them best on the plans themselves, which the table is not.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx_graphsurgeon as gs
from bench_networks import networks
from bench_rivals import macs_models, profiler_sums
from numpy.typing import NDArray
from scipy.stats import kendalltau

from hwprune.backend import Backend, Capabilities, Samples
from hwprune.graph.coupling import couple
from hwprune.graph.quarantine import read_untrusted
from hwprune.latency.calibrate import Calibration, calibrate
from hwprune.latency.estimator import Estimate, Estimator
from hwprune.latency.kernels import KernelGraph
from hwprune.latency.table import LatencyTable
from hwprune.plan import Configuration
from hwprune.registry import get_backend
from hwprune.rewrites.means import pool_means
from hwprune.rewrites.shortcuts import convolve_shortcuts
from hwprune.stages.profiling import Rows, for_any_plan, priced
from hwprune.stages.trial_plans import as_built, drawn, extremes, scattered

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
CALIBRATION_PLANS = 24  # half of them of the search space, half of any widths
SECONDS_PER_PLAN = 0.25
PROCESSES = 3
PATIENCE = 3.0  # times as long, for undisturbed runs
LEAST_RUNS = 5  # of a plan in a process
LEAST_ALONE = 0.5  # of the files, for those that were never run undisturbed to be left out
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Line:
    """One predictor on one network: relative errors and rank correlation."""

    network: str
    predictor: str
    median: float
    p90: float
    p95: float
    worst: float
    tau: float


def main() -> None:
    options = _options()
    options.work.mkdir(parents=True, exist_ok=True)
    backend = get_backend(options.target)
    threads = options.threads or backend.default_threads()
    print("| network | predictor | median % | 90 % | 95 % | worst % | tau |")
    print("|---|---|--:|--:|--:|--:|--:|")
    for name, make in networks(options.shared).items():
        if options.only in name:
            path = cached(make, options.work / f"{name}.onnx")
            for line in bench(name, path, backend, threads, options):
                errors = (line.median, line.p90, line.p95, line.worst)
                cells = " | ".join(f"{100 * e:.1f}" for e in errors)
                print(
                    f"| {line.network} | {line.predictor} | {cells} | {line.tau:.3f} |", flush=True
                )


def bench(
    name: str, path: Path, backend: Backend, threads: int, options: argparse.Namespace
) -> list[Line]:
    """Profiles, calibrates, and then compares predictions with `options.plans` timed plans.

    The plans that calibrate and those that are predicted are timed in turns, as the machine's pace
    is another one every few minutes.
    """
    graph, estimator, spent = profiled(path, backend, backend.capabilities(), threads, options.work)
    network, rng = estimator.network, random.Random(options.seed)
    trials = [*extremes(estimator.space)]
    trials += [drawn(estimator.space, rng) for _ in range(CALIBRATION_PLANS // 2 - len(trials))]
    trials += [scattered(network, rng) for _ in range(CALIBRATION_PLANS // 2)]
    plans = [scattered(network, rng) for _ in range(options.plans)]
    rival = unfused(path, backend, threads, options.work)
    for one in (estimator, rival):
        add_unknown(one, [*trials, *plans], backend, threads, options.work)
    found = timed(built([*trials, *plans], graph, network), backend, threads)
    usual, quiet, alone = truths(found, len(trials))
    trials = [c for c, seen in zip(trials, alone) if seen]
    plans = [c for c, seen in zip(plans, alone[-len(plans) :]) if seen]
    usual, quiet, some = usual[alone], quiet[alone], len(trials)
    estimates = calibrated(estimator, trials, plans, quiet)
    measured = np.nanmedian(quiet, axis=1)[some:]
    pairs = zip(measured, (e.interval() for e in estimates))
    inside = 100 * np.mean([low <= ns <= high for ns, (low, high) in pairs])
    rivals = {
        f"table ({spent}, {inside:.0f} % of {len(plans)} in the interval)": centres(estimates),
        "rows alone, scaled": sums_of(estimator, plans),
        "rows without fusion, scaled": sums_of(rival, plans),
        "profiler, scaled": profiler_sums(built(plans, graph, network), threads),
        **macs_models(network, trials, plans, np.nanmedian(quiet, axis=1)[:some]),
    }
    rivals = {n: scaled(g, measured) if "scaled" in n else g for n, g in rivals.items()}
    times = np.nanmedian(quiet, axis=1)
    dump(options.work / f"{name}-{threads}.json", [*trials, *plans], times, rivals)
    lines = [judged(name, label, guess, measured) for label, guess in rivals.items()]
    lines.append(agreement(name, "one process, of the others", quiet[some:]))
    guess = centres(calibrated(estimator, trials, plans, usual))
    p50 = np.median(usual, axis=1)[some:]
    lines.append(judged(name, "table, the p50 of the hour", guess, p50))
    return [*lines, agreement(name, "p50: one process, of the others", usual[some:])]


def truths(found: Sequence[Samples], trials: int) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Of files, by process: p50s, the same of undisturbed runs, and which files have any of these.

    The p50s twice where most files have none, of the first `trials` or of the others.
    """
    usual = medians([s.runs_ns for s in found])
    quiet = medians([s.undisturbed_ns or [()] * len(s.runs_ns) for s in found])
    alone = ~np.isnan(quiet).all(axis=1)
    if min(alone[:trials].mean(), alone[trials:].mean()) >= LEAST_ALONE:
        return usual, quiet, alone
    print("few files were ever run undisturbed: what follows are p50s", file=sys.stderr)
    return usual, usual, np.ones(len(found), bool)


def agreement(name: str, label: str, times: Array) -> Line:
    """What one process, the one that saw most plans, says of the others (`plans x processes`)."""
    best = int(np.argmin(np.isnan(times).sum(axis=0)))
    first, others = times[:, best], np.delete(times, best, axis=1)
    both = ~np.isnan(first) & ~np.isnan(others).all(axis=1)
    rest = np.nanmedian(others[both], axis=1)
    return judged(name, label, scaled(first[both], rest), rest)


def calibrated(
    estimator: Estimator,
    trials: Sequence[Configuration],
    plans: Sequence[Configuration],
    times: Array,
) -> list[Estimate]:
    """Predictions for `plans`, calibrated on the times of `trials`, which come first in `times`."""
    known = np.nanmedian(times, axis=1)[: len(trials)]
    calibration = calibrate([estimator.priced(c) for c in trials], known.tolist())
    return [estimator.estimate(c, calibration) for c in plans]


def centres(estimates: Sequence[Estimate]) -> Array:
    """Nanoseconds."""
    return np.array([e.ns for e in estimates])


def add_unknown(
    estimator: Estimator,
    plans: Sequence[Configuration],
    backend: Backend,
    threads: int,
    work: Path,
) -> None:
    """Measures kernels of the plans that are unlike all of the search space."""
    new = {k for c in plans for k in estimator.unknown(c)}
    with LatencyTable(work / "latency.db", backend.identity(), threads) as table:
        rows = Rows(table, backend, lambda *_: None)
        estimator.add_rows(rows.of(sorted(new, key=lambda k: k.key())))


def sums_of(estimator: Estimator, plans: Sequence[Configuration]) -> Array:
    """Rows, added up."""
    return np.array([estimator.latency_ns(c, Calibration()) for c in plans])


def unfused(path: Path, backend: Backend, threads: int, work: Path) -> Estimator:
    """The same table read by somebody who believes that every operator is a kernel."""
    able = backend.capabilities()
    nothing = {precision: frozenset[str]() for precision in able.activations}
    alone = replace(able, activations=nothing, residual_fused=frozenset())
    return profiled(path, backend, alone, threads, work)[1]


def scaled(guess: Array, measured: Array) -> Array:
    """With the one factor that suits it best: an advantage that the others do not have."""
    return guess * float(np.median(measured / guess))


def profiled(
    path: Path, backend: Backend, able: Capabilities, threads: int, work: Path
) -> tuple[gs.Graph, Estimator, str]:
    """The table filled for a network whose plans may have any width."""
    graph = pool_means(convolve_shortcuts(read_untrusted(path)))
    network = KernelGraph(graph, couple(graph), able)
    begin = time.monotonic()
    estimator = for_any_plan(network, 8, seed=0)
    with LatencyTable(work / "latency.db", backend.identity(), threads) as table:
        rows = Rows(table, backend, lambda *_: None)
        priced(estimator, able.layouts, rows, sweeping=True)
    return graph, estimator, f"{rows.measured} rows in {time.monotonic() - begin:.0f} s"


def built(plans: Sequence[Configuration], graph: gs.Graph, network: KernelGraph) -> list[bytes]:
    """Their files."""
    able = network.capabilities
    return [as_built(graph, network, c, able).SerializeToString() for c in plans]


def timed(models: Sequence[bytes], backend: Backend, threads: int) -> list[Samples]:
    """All in turns, so that none of them has a better hour than another."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{i}.onnx" for i in range(len(models))]
        for path, content in zip(files, models):
            path.write_bytes(content)
        seconds = SECONDS_PER_PLAN * len(files)
        return backend.time_models(files, threads, seconds, PROCESSES, PATIENCE)


def medians(runs_ns: Sequence[Sequence[Sequence[int]]]) -> Array:
    """`files x processes`, nanoseconds; nan where a process had too few runs."""
    return np.array(
        [[np.median(r) if len(r) >= LEAST_RUNS else np.nan for r in runs] for runs in runs_ns]
    )


def judged(name: str, label: str, predicted: Array, measured: Array) -> Line:
    errors = np.abs(predicted / measured - 1)
    tau = float(kendalltau(predicted, measured).statistic)
    median, p90, p95 = np.percentile(errors, (50, 90, 95))
    return Line(name, label, float(median), float(p90), float(p95), float(errors.max()), tau)


def dump(
    path: Path, plans: Sequence[Configuration], measured: Array, rivals: dict[str, Array]
) -> None:
    """Everything, for whoever wants to know which plans miss; those that calibrate come first, and
    are not predicted.
    """
    document = {
        "measured_ns": measured.tolist(),
        "predicted_ns": {name: guess.tolist() for name, guess in rivals.items()},
        "plans": [{"widths": dict(c.widths), "kernels": dict(c.kernels)} for c in plans],
    }
    path.write_text(json.dumps(document))


def cached(make: Callable[[Path], None], path: Path) -> Path:
    if not path.exists():
        make(path)
    return path


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="networks, table and results")
    parser.add_argument("--shared", type=Path, default=SHARED)
    parser.add_argument("--only", default="", help="networks whose name holds this text")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--plans", type=int, default=60)
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--seed", type=int, default=7)
    return parser.parse_args()


if __name__ == "__main__":
    main()
