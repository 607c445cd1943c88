#!/usr/bin/env python3
"""Every method of pruning on one network at equal terms: same widths or budget, same training.

    python tools/bench_methods.py prepare --work DIR --model M [--weights W] --train-data T.npz
                                          --eval-data E.npz [--scale 1] --budget 0.5x
    python tools/bench_methods.py train   --work DIR [--protocol cpu|gpu] [--only increg ...]
                                          [--seeds 2] [--jobs 2] [--minutes 60]
    python tools/bench_methods.py table   --work DIR [--protocol cpu|gpu]

`prepare` profiles the network on this machine and finds plans that meet the budget here: by the
default search, which may take out whole branches, by the knapsack without that, and by the same
share of every group. `train` cuts and trains: one row for every
method and seed, each the same number of passes over the same images in the same order, the last of
them with integers. It uses a GPU where there is one, and needs no timing, so that it may run on
another machine; rows that are there are left alone, so that it goes on where it was stopped.
`table` times all files in turns with the original, and judges them on the evaluation images,
which nothing before has seen.

Protocols: `cpu` takes 18,000 images (20,000 with those held out for searches), two passes and one
with integers; `gpu` all images, 12 passes and 3 with integers. Schedules and criteria cut to the
widths of the knapsack; `bo` is the first plan as it is built by default, `torch-pruning` is cut by
that library to the widths of `uniform`. `dsa` finds widths of its own under the same table and
budget, `joint` widths and bits in as many bytes as the first plan takes with 8.
"""

import argparse
import json
import multiprocessing
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import onnx_graphsurgeon as gs
import torch
from torch import nn

from hwprune.compiler import CompileOptions
from hwprune.differentiable import joint
from hwprune.differentiable.allocation import Allocation
from hwprune.differentiable.choosing import JointOptions
from hwprune.differentiable.dsa import learn_ratios
from hwprune.export.lower import lower
from hwprune.export.placeholder import placeholder_encodings
from hwprune.frontend.module import graph_from_module
from hwprune.graph.cost import macs, weighted_nodes
from hwprune.graph.slim import slim
from hwprune.latency.space import SearchSpace
from hwprune.network.run import top1
from hwprune.network.twin import to_module
from hwprune.plan import Plan
from hwprune.progress import progress_on
from hwprune.pruning.criteria import rank_channels
from hwprune.pruning.reconstruct import FINAL, Reference
from hwprune.quantize.ptq import Quantized, quantize
from hwprune.registry import get_backend
from hwprune.report.jsonio import from_json, to_json
from hwprune.schedules.catalogue import SCHEDULES, schedule_of
from hwprune.schedules.shrink import shrink
from hwprune.search.decode import Decoder
from hwprune.search.documents import task_from_json, task_to_json
from hwprune.search.strategy import Task
from hwprune.stages.candidates import repaired
from hwprune.stages.checkpoints import open_run
from hwprune.stages.choice import Choice
from hwprune.stages.fitting import Fit, planned_ns, quantised_kernels
from hwprune.stages.losses import Losses
from hwprune.stages.outcome import decide
from hwprune.stages.profiling import profile
from hwprune.stages.rewriting import rewrite, rewritten_job
from hwprune.stages.run import Run
from hwprune.stages.searching import planned_problem
from hwprune.stages.sources import Job, load_job
from hwprune.stages.timing import summarise
from hwprune.train.device import training_device
from hwprune.train.qat import qat
from hwprune.train.recipe import Recipe
from hwprune.train.recover import recover
from hwprune.units import parse_budget
from hwprune.verify.outputs import file_outputs

SECONDS = 0.5  # per file and process
PROCESSES = 6


@dataclass(frozen=True)
class Protocol:
    """How much training a row gets: images, passes over them, and passes with integers."""

    images: int
    epochs: float
    integers: float


PROTOCOLS = {"cpu": Protocol(18_000, 2, 1), "gpu": Protocol(1_000_000, 12, 3)}
Cut = tuple[gs.Graph, Plan, Recipe]  # the slim network, its plan, and the training that is left
Cutter = Callable[[Path, Job, Plan, Recipe], Cut]


@dataclass(frozen=True)
class Row:
    """What a method came to."""

    method: str
    seed: int
    protocol: str
    device: str
    before: float  # percent, right after the cut
    seconds: float
    macs: int
    size: int


def prepare(args: argparse.Namespace) -> None:
    """Three plans for the budget on this machine."""
    for search in ("bo", "uniform"):
        options = CompileOptions(
            budget=parse_budget(args.budget), model=args.model, weights=args.weights,
            train_data=args.train_data, eval_data=args.eval_data, scale=args.scale, threads=1,
            search=search, out=args.work / search,
        )  # fmt: skip
        watch, job = progress_on(sys.stderr), load_job(options)
        with open_run(args.work / search, options) as checkpoints:
            with watch.stage("rewrite", total=1) as stage:
                job = rewrite(job, checkpoints, stage)
            with watch.stage("profile", total=1) as stage:
                run = Run(job, profile(job, checkpoints, stage), checkpoints, watch)
            outcome = decide(run)
        (args.work / f"{search}.json").write_text(outcome.plan.to_json())
        print(f"{search}: {outcome.plan.configuration.widths}")
        if search == "bo" and outcome.losses is not None and outcome.fit is not None:
            by_width(run, outcome.losses, outcome.fit, args.work)
    named = ("model", "weights", "train_data", "eval_data", "scale")
    told = {name: getattr(args, name) for name in named}
    document = {"options": told, "rewrites": job.choice.document(), "budget": args.budget}
    (args.work / "task.json").write_text(json.dumps(document, default=str))


def by_width(run: Run, losses: Losses, fit: Fit, work: Path) -> None:
    """The knapsack's plan that keeps all branches, so that all methods have channels to remove, and
    the problem that it answers, for methods that find widths by training.
    """
    limit = planned_ns(run)
    problem = planned_problem(run, losses, fit.calibration, limit)
    whole = {v.name: 1 for v in problem.variables if v.name.startswith("branch:")}
    decoder = Decoder(problem)
    fixed = decoder.decode(limit, fixed=whole).assignment
    plan = losses.plan(run.job, run.profile.configuration(fixed))
    (work / "widths.json").write_text(plan.to_json())
    print(f"widths: {plan.configuration.widths}")
    task = task_to_json(Task(problem, decoder, limit, 0), "dsa", 0.0)
    space = json.loads(to_json(run.profile.space))
    document = {"task": task, "space": space, "fixed": dict(fixed)}
    (work / "allocation.json").write_text(json.dumps(document))


def job_of(work: Path, seed: int, args: Mapping[str, Any]) -> Job:
    """The network and data of a prepared task, on whatever machine."""
    document = json.loads((work / "task.json").read_text())
    told = {k: v for k, v in document["options"].items() if v is not None}
    told |= {k: v for k, v in args.items() if v is not None}
    told["weights"] = Path(told["weights"]) if "weights" in told else None
    job = load_job(CompileOptions(budget=parse_budget("1x"), threads=1, seed=seed, **told))
    return rewritten_job(job, Choice.of(document["rewrites"]))


def ranked(job: Job, plan: Plan, criterion: str) -> Plan:
    """The plan with as many channels of each group, but those that a criterion ranks highest."""
    x, seed = job.calibration(512), job.options.seed
    rankings = rank_channels(job.graph, job.coupling, x, criterion, seed)
    return replace(plan, keep={g: rankings[g].kept(len(k)) for g, k in plan.keep.items()})


def at_once(criterion: str, repairs: bool) -> Cutter:
    """Everything goes before the training."""

    def cut(_work: Path, job: Job, plan: Plan, recipe: Recipe) -> Cut:
        plan = ranked(job, plan, criterion)
        if not repairs:
            return slim(job.graph, job.coupling, plan.keep, plan.dropped), plan, recipe
        seed = job.options.seed
        reference = Reference(job.graph, job.coupling, job.calibration(), seed, FINAL)
        return repaired(job.graph, plan, reference), plan, recipe

    return cut


def scheduled(name: str) -> Cutter:
    """Channels go while the network is trained."""

    def cut(_work: Path, job: Job, plan: Plan, recipe: Recipe) -> Cut:
        schedule = schedule_of(name)
        assert schedule is not None
        data, seed = job.splits.train, job.options.seed
        found = shrink(
            job.graph, job.coupling, plan, schedule, data, recipe, seed, job.calibration()
        )
        return found.graph, found.plan, recipe.part(1 - schedule.share)

    return cut


def by_dsa(work: Path, job: Job, plan: Plan, recipe: Recipe) -> Cut:
    """Widths by training: half of it for them, half for recovery."""
    document = json.loads((work / "allocation.json").read_text())
    task, _, _ = task_from_json(document["task"])
    space = from_json(SearchSpace, json.dumps(document["space"]))
    allocation = Allocation(space, task.problem, task.budget_ns, document["fixed"])
    x, seed, half = job.calibration(512), job.options.seed, recipe.part(0.5)
    rankings = rank_channels(job.graph, job.coupling, x, "obs", seed)
    found = learn_ratios(
        job.graph, job.coupling, allocation, job.splits.train, half, seed, None, rankings
    )
    keep = found.kept(allocation.widths(found.ratios))
    keep = {g: k for g, k in keep.items() if len(k) < job.coupling.full[g]}
    plan = replace(plan, keep=keep)
    return slim(found.graph, job.coupling, keep, plan.dropped), plan, half


def by_torch_pruning(_work: Path, job: Job, plan: Plan, recipe: Recipe) -> Cut:
    """Cut by Torch-Pruning's magnitude pruner, to the widths of the plan."""
    import torch_pruning as tp

    module = to_module(job.graph)
    for node in module.graph.nodes:  # a reshape says how many channels there are; flatten does not
        if getattr(node.target, "__name__", "") == "reshape" and len(node.kwargs["after"]) == 2:
            node.target, node.args, node.kwargs = torch.flatten, (node.args[0], 1), {}
    module.recompile()
    example = torch.from_numpy(job.splits.train.batch(slice(0, 1)))
    shares: dict[nn.Module, float] = {}
    for group, kept in plan.keep.items():
        for node in job.coupling.group(group).producers:
            layer = next(m for n, m in module.named_modules() if n == node)
            shares[layer] = 1 - len(kept) / job.coupling.full[group]
    ignored = [m for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    pruner = tp.pruner.MagnitudePruner(
        module, example, tp.importance.MagnitudeImportance(p=1), pruning_ratio=0.0,
        pruning_ratio_dict=shares, ignored_layers=[m for m in ignored if m not in shares],
    )  # fmt: skip
    pruner.step()
    graph = graph_from_module(module, (example,))
    return graph, Plan(kernels={n.name: "int8" for n in weighted_nodes(graph)}), recipe


METHODS: dict[str, tuple[str, Cutter]] = {
    "random": ("widths", at_once("random", repairs=False)),
    "l1": ("widths", at_once("magnitude", repairs=False)),
    "l1-repaired": ("widths", at_once("magnitude", repairs=True)),
    "uniform": ("uniform", at_once("obs", repairs=True)),
    "torch-pruning": ("uniform", by_torch_pruning),
    "bo": ("bo", at_once("obs", repairs=True)),
    "one-shot": ("widths", at_once("obs", repairs=True)),
    **{name: ("widths", scheduled(name)) for name in SCHEDULES},
    "dsa": ("widths", by_dsa),
}
NAMES = [*METHODS, "joint"]


def one(work: Path, name: str, seed: int, protocol: str, told: Mapping[str, Any]) -> Row:
    """Cuts, trains and quantises by one method."""
    torch.set_num_threads(int(told.get("cores") or 1))
    wanted, paths = PROTOCOLS[protocol], {k: v for k, v in told.items() if k != "cores"}
    job = job_of(work, seed, paths)
    train = job.splits.train.take(wanted.images, 0)  # the same images for every seed
    job = replace(job, splits=replace(job.splits, train=train))
    start = time.perf_counter()
    if name == "joint":
        found = jointly(work, job, wanted)
        graph, quantized = slim(found.graph, job.coupling, found.plan.keep), found.quantized
        before, plan = accuracy(job, graph), found.plan
    else:
        allocation, cut = METHODS[name]
        plan = Plan.from_json((work / f"{allocation}.json").read_text())
        graph, plan, left = cut(work, job, plan, Recipe(wanted.epochs))
        before = accuracy(job, graph)
        graph = recover(graph, job.graph, train, left, seed)
        kernels = quantised_kernels(plan.kernels, {node.name for node in graph.nodes})
        quantized = quantize(graph, kernels, job.capabilities, job.calibration(), plan.weight_bits)
    quantized = qat(quantized, job.graph, train, Recipe(wanted.integers), seed)
    spent = time.perf_counter() - start
    kernels = quantised_kernels(plan.kernels, {node.name for node in graph.nodes})
    model = lower(quantized.graph, kernels, quantized.encodings, job.capabilities)
    path = row_path(work, protocol, name, seed).with_suffix(".onnx")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(model.SerializeToString())
    device = training_device().type
    return Row(name, seed, protocol, device, before, spent, macs(graph), path.stat().st_size)


@dataclass(frozen=True)
class Jointly:
    """What a search for widths and bits leaves to be trained on."""

    plan: Plan
    graph: gs.Graph
    quantized: Quantized


def jointly(work: Path, job: Job, wanted: Protocol) -> Jointly:
    """Widths and bits by gradients, in as many bytes as the default search's plan takes."""
    plan = Plan.from_json((work / "bo.json").read_text())
    cut = slim(job.graph, job.coupling, plan.keep, plan.dropped)
    kernels = quantised_kernels(plan.kernels, {node.name for node in cut.nodes})
    ranges = placeholder_encodings(cut, kernels, job.capabilities, plan.weight_bits)
    most = len(lower(cut, kernels, ranges, job.capabilities).SerializeToString())
    space = json.loads((work / "allocation.json").read_text())["space"]
    widths: dict[str, list[int]] = {}
    for options in from_json(SearchSpace, json.dumps(space)).widths.values():
        for group in options[0]:
            widths[group] = sorted({option[group] for option in options})
    asked, x = JointOptions(round(wanted.epochs), widths=widths), job.calibration()
    able = {n: k for n, k in plan.kernels.items() if k != "fp32"}
    found = joint.search(
        job.graph, job.coupling, job.capabilities, job.splits.train, x, able, most, asked,
        job.options.seed,
    )  # fmt: skip
    quantized = joint.carried_out(found, job.coupling, job.capabilities, x)
    return Jointly(found.plan, found.graph, quantized)


@torch.no_grad()
def accuracy(job: Job, graph: gs.Graph) -> float:
    """Percent of the evaluation images, in fp32."""
    data, device = job.splits.eval, training_device()
    module, starts = to_module(graph).to(device), range(0, len(data), 500)
    portions = (torch.from_numpy(data.batch(slice(i, i + 500))) for i in starts)
    found = [module(x.to(device)) for x in portions]
    assert data.y is not None
    return 100 * top1(torch.cat(found).cpu(), data.y)


def train(args: argparse.Namespace) -> None:
    """All rows that are missing, several at a time; those begun after `--minutes` are left out."""
    end = time.monotonic() + 60 * args.minutes
    told = {"train_data": args.train_data, "eval_data": args.eval_data, "model": args.model,
            "weights": args.weights, "cores": args.cores}  # fmt: skip
    told = {k: str(v) if isinstance(v, Path) else v for k, v in told.items()}
    waiting = [
        (name, seed) for seed, name in product(range(args.seeds), args.only)
        if not row_path(args.work, args.protocol, name, seed).exists()
    ]  # fmt: skip
    with ProcessPoolExecutor(args.jobs, multiprocessing.get_context("spawn")) as pool:
        running = {}
        queue = iter(waiting)

        def begin() -> None:
            if time.monotonic() < end and (following := next(queue, None)) is not None:
                job = pool.submit(one, args.work, *following, args.protocol, told)
                running[job] = following

        for _ in range(args.jobs):
            begin()
        while running:
            done = next(as_completed(running))
            name, seed = running.pop(done)
            begin()
            written(args, name, seed, done.exception() or done.result())


def written(args: argparse.Namespace, name: str, seed: int, found: Row | BaseException) -> None:
    """Keeps a row; says why there is none."""
    if isinstance(found, BaseException):
        print(f"{name} {seed}: {found}", flush=True)
        traceback.print_exception(found)
        return
    path = row_path(args.work, args.protocol, name, seed)
    path.write_text(json.dumps(asdict(found)))
    print(f"{name} {seed}: {found.before:.2f} % before, {found.seconds:.0f} s", flush=True)


def row_path(work: Path, protocol: str, name: str, seed: int) -> Path:
    """Where a row is kept."""
    return work / "rows" / f"{protocol}-{name}-{seed}.json"


def rows_of(args: argparse.Namespace) -> Iterator[Row]:
    """Those that are there, in the order of the methods."""
    for name, seed in product(NAMES, range(args.seeds)):
        path = row_path(args.work, args.protocol, name, seed)
        if path.exists():
            yield Row(**json.loads(path.read_text()))


def table(args: argparse.Namespace) -> None:
    """Times and judges all files; mean and spread for every method."""
    rows = list(rows_of(args))
    files = [row_path(args.work, r.protocol, r.method, r.seed).with_suffix(".onnx") for r in rows]
    told = {"train_data": args.train_data, "eval_data": args.eval_data}
    job = job_of(args.work, 0, told)
    original = args.work / "bo" / "run" / "original.onnx"
    ratio = ratios(args.work, args.protocol, [original, *files])
    right = {path: judged(job, path) for path in (original, *files)}
    budget = json.loads((args.work / "task.json").read_text())["budget"]
    size = original.stat().st_size / 1e3
    print(f"{job.model.name}, {budget}, protocol {args.protocol}")
    print(f"original: {right[original]:.2f} %, {macs(job.graph) / 1e6:.1f} M MACs, {size:.0f} kB")
    print("| method | seeds | top-1 before | after | spread | time | M MACs | kB | seconds |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    for method in NAMES:
        own = [(r, f) for r, f in zip(rows, files, strict=True) if r.method == method]
        if own:
            found, paths = zip(*own, strict=True)
            after, times = [right[f] for f in paths], [ratio[f] for f in paths]
            print("|", " | ".join(cells(method, found, after, times)), "|")


def cells(
    method: str, rows: Sequence[Row], after: Sequence[float], times: Sequence[float]
) -> Iterator[str]:
    """Of one line of the table."""
    yield from (method, str(len(rows)), f"{mean(r.before for r in rows):.2f}")
    yield from (f"{mean(after):.2f}", f"{stdev(after):.2f}" if len(after) > 1 else "")
    yield from (f"{mean(times):.3f}x", f"{mean(r.macs for r in rows) / 1e6:.1f}")
    yield from (f"{mean(r.size for r in rows) / 1e3:.0f}", f"{mean(r.seconds for r in rows):.0f}")


def ratios(work: Path, protocol: str, files: Sequence[Path]) -> dict[Path, float]:
    """Time of each over the first's; remembered until the files are others."""
    kept = work / f"times-{protocol}.json"
    stamps = {str(f): f.stat().st_mtime for f in files}
    if kept.exists() and (document := json.loads(kept.read_text()))["files"] == stamps:
        return {f: document["ratios"][str(f)] for f in files}
    times = get_backend("cpu").time_models(list(files), 1, SECONDS * len(files), PROCESSES)
    quiet = [summarise(t).quiet for t in times]
    found = {f: q / quiet[0] for f, q in zip(files, quiet, strict=True)}
    text = {"files": stamps, "ratios": {str(f): r for f, r in found.items()}}
    kept.write_text(json.dumps(text))
    return found


def judged(job: Job, path: Path) -> float:
    """Percent of the evaluation images that the file gets right; remembered beside it."""
    kept = path.with_suffix(".top1")
    if not kept.exists() or kept.stat().st_mtime < path.stat().st_mtime:
        x, y = job.splits.eval.inputs(slice(None)), job.splits.eval.y
        right = (file_outputs(path, x, 2)[0].argmax(1).numpy() == y).mean()
        kept.write_text(str(100 * float(right)))
    return float(kept.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("step", choices=["prepare", "train", "table"])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--train-data")
    parser.add_argument("--eval-data")
    parser.add_argument("--scale", type=float)
    parser.add_argument("--budget", default="0.5x")
    parser.add_argument("--protocol", choices=list(PROTOCOLS), default="cpu")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=1e6)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    {"prepare": prepare, "train": train, "table": table}[args.step](args)


if __name__ == "__main__":
    main()
