"""A row for every method and seed: cut, trained, on integers, in a file of its own."""

import argparse
import json
import multiprocessing
import time
import traceback
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import onnx_graphsurgeon as gs
import torch
from bench_methods_cuts import METHODS, jointly
from bench_methods_prepare import job_of

from hwprune.export.lower import lower
from hwprune.graph.cost import macs
from hwprune.graph.slim import slim
from hwprune.network.run import top1
from hwprune.network.twin import to_module
from hwprune.plan import Plan
from hwprune.quantize.ptq import quantize
from hwprune.stages.fitting import quantised_kernels
from hwprune.stages.sources import Job
from hwprune.train.device import training_device
from hwprune.train.qat import qat
from hwprune.train.recipe import Recipe
from hwprune.train.recover import recover


@dataclass(frozen=True)
class Protocol:
    """How much training a row gets: images, passes over them, and passes with integers."""

    images: int
    epochs: float
    integers: float


PROTOCOLS = {"cpu": Protocol(18_000, 2, 1), "gpu": Protocol(1_000_000, 12, 3)}
NAMES = [*METHODS, "joint"]


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


def one(work: Path, name: str, seed: int, protocol: str, told: Mapping[str, Any]) -> Row:
    """Cuts, trains and quantises by one method."""
    torch.set_num_threads(int(told.get("cores") or 1))
    wanted, paths = PROTOCOLS[protocol], {k: v for k, v in told.items() if k != "cores"}
    job = job_of(work, seed, paths)
    train = job.splits.train.take(wanted.images, 0)  # the same images for every seed
    job = replace(job, splits=replace(job.splits, train=train))
    start = time.perf_counter()
    if name == "joint":
        found = jointly(work, job, round(wanted.epochs))
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


@torch.no_grad()
def accuracy(job: Job, graph: gs.Graph) -> float:
    """Percent of the evaluation images, in fp32."""
    data, device = job.splits.eval, training_device()
    module, starts = to_module(graph).to(device), range(0, len(data), 500)
    portions = (torch.from_numpy(data.batch(slice(i, i + 500))) for i in starts)
    found = [module(x.to(device)) for x in portions]
    assert data.y is not None
    return 100 * top1(torch.cat(found).cpu(), data.y)


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
