#!/usr/bin/env python3
"""Every search strategy on a real network: the same evaluations, the same predicted time.

    python tools/bench_strategies.py prepare --work DIR --model M --train-data D --eval-data E
                                             --budget 0.22x [--weights W] [--scale 1]
    python tools/bench_strategies.py search  --work DIR [--only bo ...] [--seeds 2]
                                             [--evaluations 100] [--jobs 2]
    python tools/bench_strategies.py judge   --work DIR [--processes 6] [--epochs 1]
    python tools/bench_strategies.py proxy   --work DIR
    python tools/bench_strategies.py spread  --work DIR

`prepare` profiles the network on this machine, measures what cuts and kernels lose, and writes the
search problem down; `search` needs neither table nor target, so that it may run elsewhere; `judge`
builds the best network of each search, times all of them in turns with the original, looks at
labels for the first time, and does so again after the same short training of each. A search that
is interrupted goes on where it was, and evaluations are shared between strategies. `loss` is what
is searched by, measured on held-out training images;
Kendall's tau tells how well it orders what is judged; `proxy` asks again about the networks that
were judged, with more samples and a more thorough repair; `spread` counts how many networks random
multipliers come to.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
from scipy.stats import kendalltau

from hwprune.compiler import CompileOptions
from hwprune.latency.space import SearchSpace
from hwprune.network.run import outputs
from hwprune.network.twin import to_module
from hwprune.plan import Configuration
from hwprune.progress import progress_on
from hwprune.pruning.reconstruct import QUICK, THOROUGH, Reference
from hwprune.registry import get_backend
from hwprune.report.jsonio import from_json
from hwprune.search.catalogue import STRATEGIES
from hwprune.search.decode import Decoder
from hwprune.search.documents import task_from_json, task_to_json
from hwprune.search.problem import key_of
from hwprune.search.strategy import REACH, Task
from hwprune.search.study import search
from hwprune.stages.building import build
from hwprune.stages.candidates import Evaluator
from hwprune.stages.checkpoints import open_run
from hwprune.stages.fitting import first_look, planned_ns
from hwprune.stages.joining import job_of, objective, shared
from hwprune.stages.losses import candidate_loss, known_losses, losses_from
from hwprune.stages.profiling import profile
from hwprune.stages.rewriting import rewrite
from hwprune.stages.run import Run
from hwprune.stages.searching import planned_problem
from hwprune.stages.sources import Job, load_job
from hwprune.stages.timing import summarise
from hwprune.units import parse_budget
from hwprune.verify.outputs import file_outputs

DRAWS = 150  # random multipliers that networks are counted of
SECONDS = 0.5  # per file and process
SAMPLINGS = {"quick": QUICK, "thorough": THOROUGH}
FIDELITIES = (
    (235, 235, "quick"),
    (512, 512, "quick"),
    (2048, 512, "quick"),
    (512, 512, "thorough"),
    (4096, 2048, "thorough"),
)


@dataclass(frozen=True)
class Found:
    """The outcome of one search."""

    strategy: str
    seed: int
    evaluations: int
    first: float
    loss: float
    assignment: dict[str, int]
    latency_ns: float


def prepare(args: argparse.Namespace) -> None:
    options = CompileOptions(
        budget=parse_budget(args.budget), model=args.model, train_data=args.train_data,
        eval_data=args.eval_data, scale=args.scale, threads=1, weights=args.weights,
        out=args.work / "out",
    )  # fmt: skip
    watch = progress_on(sys.stderr)
    job = load_job(options)
    with open_run(args.work / "out", options) as checkpoints:
        with watch.stage("rewrite", total=1) as stage:
            job = rewrite(job, checkpoints, stage)
        with watch.stage("profile", total=1) as stage:
            run = Run(job, profile(job, checkpoints, stage), checkpoints, watch)
        with watch.stage("sensitivity", total=1) as stage:
            losses = known_losses(job, run.profile, checkpoints, stage)
        limit = planned_ns(run)
        problem = planned_problem(run, losses, first_look(run, losses), limit)
        task = Task(problem, Decoder(problem), limit, 0)
        document = {
            "task": task_to_json(task, "bo", 0.0),
            "context": shared(run, losses).context,
            "budget": args.budget,
            "original_ns": run.profile.original.quiet,
        }
        (args.work / "problem.json").write_text(json.dumps(document))
    print(f"{len(problem.variables)} variables, {len(problem.knobs)} multipliers, {limit:.0f} ns")


def spread(args: argparse.Namespace) -> None:
    task, _, _ = task_from_json(json.loads((args.work / "problem.json").read_text())["task"])
    rng, knobs = np.random.default_rng(0), task.problem.knobs
    draws = (dict(zip(knobs, rng.uniform(-REACH, REACH, len(knobs)).tolist(), strict=True))
             for _ in range(DRAWS))  # fmt: skip
    found = {key_of(task.decode(x).assignment) for x in draws}
    print(f"{DRAWS} random multipliers of {len(knobs)} groups are {len(found)} networks")


def one(work: Path, strategy: str, seed: int, evaluations: int) -> Found:
    torch.set_num_threads(1)
    document = json.loads((work / "problem.json").read_text())
    task, _, _ = task_from_json(document["task"])
    evaluate = objective(document["context"], None, None)
    found = search(
        task.problem, task.budget_ns, evaluate, strategy, evaluations, seed, work / "trials.db"
    )
    answers = [e.loss for e in found.evaluated if not e.step]
    return Found(
        strategy, seed, len(found.evaluated), answers[0], found.best.loss,
        found.best.assignment, found.best.latency_ns,
    )  # fmt: skip


def run_searches(args: argparse.Namespace) -> None:
    with ProcessPoolExecutor(args.jobs) as pool:
        waiting = {
            pool.submit(one, args.work, s, seed, args.evaluations): (s, seed)
            for s, seed in product(args.only, range(args.seeds))
            if not result_path(args.work, s, seed).exists()
        }
        for done in as_completed(waiting):
            strategy, seed = waiting[done]
            found = done.result()
            result_path(args.work, strategy, seed).write_text(json.dumps(asdict(found)))
            print(f"{strategy} {seed}: {found.first:.4f} -> {found.loss:.4f}", flush=True)


def result_path(work: Path, strategy: str, seed: int) -> Path:
    return work / f"found-{strategy}-{seed}.json"


def results(work: Path) -> Iterator[Found]:
    for strategy in STRATEGIES:
        for path in sorted(work.glob(f"found-{strategy}-[0-9]*.json")):
            yield Found(**json.loads(path.read_text()))


def judge(args: argparse.Namespace) -> None:
    document = json.loads((args.work / "problem.json").read_text())
    context = document["context"]
    job = job_of(context, None, None)
    losses = losses_from(job, context["losses"])
    space = from_json(SearchSpace, json.dumps(context["space"]))
    network = job.subject.network()
    watch, rows = progress_on(sys.stderr), list(results(args.work))
    distinct: dict[str, Path] = {}
    for row in rows:
        name = f"best-{row.strategy}-{row.seed}"
        distinct.setdefault(json.dumps(row.assignment), args.work / f"{name}.onnx")
    for i, (text, path) in enumerate(distinct.items()):
        c: Configuration = network.settled(space.configuration(json.loads(text)))
        for epochs, file in ((0, path), (args.epochs, tuned(path, args.epochs))):
            if not file.exists():
                asked = replace(job, options=replace(job.options, epochs=epochs))
                built = build(asked, losses.plan(job, c), watch)
                file.write_bytes(built.model.SerializeToString())
        watch.note(f"{i + 1} of {len(distinct)} built")
    files = [args.work / "out" / "run" / "original.onnx", *distinct.values()]
    times = get_backend("cpu").time_models(files, 1, SECONDS * len(files), args.processes)
    quiet = [summarise(t).quiet for t in times]
    ratio = {path: q / quiet[0] for path, q in zip(files, quiet, strict=True)}
    judged = {text: [ratio[path], top1(job, path)] for text, path in distinct.items()}
    (args.work / "top1.json").write_text(json.dumps({t: j[1] for t, j in judged.items()}))
    if args.epochs:
        for text, path in distinct.items():
            judged[text].append(top1(job, tuned(path, args.epochs)))
    table(document, rows, judged, top1(job, files[0]))


def tuned(path: Path, epochs: int) -> Path:
    """Where the network is that was trained so long; the same file for none at all."""
    return path.with_stem(f"{path.stem}-tuned{epochs}") if epochs else path


def top1(job: Job, path: Path) -> float:
    """Percent of the evaluation split."""
    x, y = job.splits.eval.inputs(slice(None)), job.splits.eval.y
    return 100 * float((file_outputs(path, x, 2)[0].argmax(1).numpy() == y).mean())


def proxy(args: argparse.Namespace) -> None:
    context = json.loads((args.work / "problem.json").read_text())["context"]
    right = json.loads((args.work / "top1.json").read_text())
    job = job_of(context, None, None)
    losses = losses_from(job, context["losses"])
    space = from_json(SearchSpace, json.dumps(context["space"]))
    network = job.subject.network()
    print("| samples to repair by | to judge by | repair | s each | Kendall's tau |")
    print("|--:|--:|---|--:|--:|")
    for repair, held, name in FIDELITIES:
        samples, x = job.calibration(repair), job.search_inputs(held)
        reference = Reference(job.graph, job.coupling, samples, 0, SAMPLINGS[name])
        asked = Evaluator(job.graph, job.coupling, reference, x, outputs(to_module(job.graph), x))
        evaluate = candidate_loss(
            job, replace(losses, evaluator=asked), lambda a: network.settled(space.configuration(a))
        )
        start = time.perf_counter()
        found = [-evaluate(json.loads(text)) for text in right]
        each = (time.perf_counter() - start) / len(found)
        tau = kendalltau(found, list(right.values())).statistic
        print(f"| {repair} | {held} | {name} | {each:.2f} | {tau:.2f} |", flush=True)


def table(
    document: Mapping[str, object],
    rows: Sequence[Found],
    judged: Mapping[str, Sequence[float]],
    original: float,
) -> None:
    """`judged`: ratio, top-1, and, where it was trained, top-1 after that, by assignment."""
    heads = ["top-1", "trained"][: len(next(iter(judged.values()))) - 1]
    print(f"budget {document['budget']}; the original: {original:.2f} % top-1")
    print(f"| strategy | seed | evaluations | first loss | loss | time | {' | '.join(heads)} |")
    print(f"|---|{'--:|' * (5 + len(heads))}")
    for row in rows:
        ratio, *right = judged[json.dumps(row.assignment)]
        cells = (row.strategy, row.seed, row.evaluations, f"{row.first:.4f}", f"{row.loss:.4f}",
                 f"{ratio:.3f}x", *(f"{r:.2f}" for r in right))  # fmt: skip
        print("|", " | ".join(map(str, cells)), "|")
    loss = {json.dumps(row.assignment): -row.loss for row in rows}
    for i, head in enumerate(heads):
        if len(loss) > 2:
            tau = kendalltau(list(loss.values()), [judged[t][1 + i] for t in loss]).statistic
            print(f"Kendall's tau of loss and {head} over {len(loss)} networks: {tau:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("step", choices=["prepare", "search", "judge", "proxy", "spread"])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--train-data")
    parser.add_argument("--eval-data")
    parser.add_argument("--scale", type=float)
    parser.add_argument("--budget", default="0.3x")
    parser.add_argument("--only", nargs="+", default=[s for s in STRATEGIES if s != "exhaustive"])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--evaluations", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--processes", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=0)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    steps = {"prepare": prepare, "search": run_searches, "judge": judge, "proxy": proxy,
             "spread": spread}  # fmt: skip
    steps[args.step](args)


if __name__ == "__main__":
    main()
