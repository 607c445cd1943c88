#!/usr/bin/env python3
"""Quantised files against those that people have today: time, quality and bytes.

    python tools/bench_quantize.py --work DIR [--shared ../shared/data] [--only TEXT]
                                   [--threads 1 2] [--seconds 2] [--processes 3]
                                   [--neural-compressor PYTHON]

Ours is `hwprune compile` with a budget that the original meets already: nothing is pruned, every
layer has the kernel that is fastest. Beside it the file as it came, onnxruntime's `quantize_static`
(QDQ, per channel, its own preprocessing) and `quantize_dynamic`, brevitas' QCDQ export, NNCF where
it is installed, and neural-compressor in the environment of the PYTHON given. All files of a
network are timed in turns: the ratios are to the file as it came and to ours, of the 20th
percentile by process, their median and range. Quality is measured on data that none has seen.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from bench_compile import Network, keywords, photos, unpack
from bench_compile import networks as compiled_networks
from bench_networks import networks as shapes
from bench_stock import STOCK, neural_compressor
from numpy.typing import NDArray

from hwprune.backend import Samples
from hwprune.frontend.models import load_model
from hwprune.graph.read import to_proto
from hwprune.registry import get_backend
from hwprune.stages.options import CompileOptions
from hwprune.stages.quality import report_quality
from hwprune.stages.sources import Job, load_job
from hwprune.units import Budget
from hwprune.verify.outputs import file_outputs

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
OURS, ORIGINAL = "hwprune", "as it came"


def main() -> None:
    options = _options()
    options.work.mkdir(parents=True, exist_ok=True)
    print("| network | threads | file | ms | to the original | to ours | kB | quality |")
    print("|---|--:|---|--:|--:|--:|--:|--:|")
    for case in cases(options):
        if options.only in case.name:
            job = load_job(CompileOptions(budget=Budget(ratio=2.0), **keywords(case)))
            for threads in options.threads:
                for cells in rows(case, job, threads, options):
                    print(f"| {' | '.join(cells)} |", flush=True)


def cases(options: argparse.Namespace) -> Iterator[Network]:
    """The networks of the table; MobileNetV2 and ResNet-18 for their shapes alone."""
    data = unpack(options.shared, options.work / "data")
    yield from compiled_networks(options.shared, data)
    cifar = ("--train-data", f"{data}/cifar10_train.npz", "--eval-data", f"{data}/cifar10_test.npz")
    small = str(options.shared / "cifar10_resnet8.onnx")
    yield Network("resnet8", small, (*cifar, "--scale", "1"), ())
    photos(data / "tiny_imagenet_20_train.npz", data / "photos480.npz", (224, 224), 480)
    for name in ("mobilenetv2", "resnet18"):
        path = options.work / f"{name}-source.onnx"
        if not path.exists():
            shapes(options.shared)[name](path)
        yield Network(name, str(path), ("--data", f"{data}/photos480.npz"), ())


def rows(
    case: Network, job: Job, threads: int, options: argparse.Namespace
) -> Iterator[tuple[str, ...]]:
    """One for each file there is, or why there is none."""
    files = {ORIGINAL: original(case, options.work), OURS: ours(case, threads, options.work)}
    failures, others = {}, dict(STOCK)
    if options.neural_compressor:
        others["neural-compressor"] = neural_compressor(options.neural_compressor)
    for name, make in others.items():
        path = options.work / f"{case.name}-{name.replace(' ', '-')}.onnx"
        try:
            if not path.exists():
                make(files[ORIGINAL], path, job.calibration(256)[0].numpy())
            file_outputs(path, first(job, 1), 1)
            files[name] = path
        except Exception as error:  # whatever another tool says
            failures[name] = type(error).__name__
    timed = get_backend("cpu").time_models(
        list(files.values()), threads, options.seconds * len(files), options.processes
    )
    times = dict(zip(files, map(quiet, timed), strict=True))
    for name, path in files.items():
        yield (
            case.name,
            str(threads),
            name,
            f"{times[name].min() / 1e6:.3f}",
            ratio(times[name], times[ORIGINAL]),
            ratio(times[name], times[OURS]),
            f"{path.stat().st_size / 1e3:.0f}",
            quality(job, files[ORIGINAL], path),
        )
    for name, why in failures.items():
        yield case.name, str(threads), name, f"fails: {why}", "", "", "", ""


def original(case: Network, work: Path) -> Path:
    """The file as it came, or what an exporter makes of the module."""
    if case.model.endswith(".onnx"):
        return Path(case.model)
    path = work / f"{case.name}-source.onnx"
    if not path.exists():
        graph = load_model(case.model, keywords(case).get("weights"), {}, 1).graph
        path.write_bytes(to_proto(graph).SerializeToString())
    return path


def ours(case: Network, threads: int, work: Path) -> Path:
    """Compiled once for a number of threads."""
    out = work / f"{case.name}-{threads}"
    if not (out / "report.json").exists():
        program = [sys.executable, "-P", "-c", "from hwprune.cli import main; main()"]
        how = ["--budget", "2x", "--threads", str(threads), "--out", str(out), "--force"]
        with (work / f"{out.name}.log").open("w") as log:
            command = [*program, "compile", case.model, *how, *case.data]
            subprocess.run(command, stdout=log, stderr=log, check=False)
    return out / "model.onnx"


def first(job: Job, count: int) -> tuple[NDArray[np.float32], ...]:
    """Of the data that nobody has seen."""
    return job.splits.eval.inputs(slice(0, count))


def quality(job: Job, before: Path, after: Path) -> str:
    """Top-1 where there are labels, agreement or SQNR with the original elsewhere."""
    data = job.splits.eval
    x = first(job, len(data))
    found = report_quality(file_outputs(before, x, 2), file_outputs(after, x, 2), data.y, job.known)
    if found.compiled is None:
        return "-"
    return (
        f"{found.compiled:.1f} dB"
        if found.metric == "sqnr_db"
        else f"{found.metric} {100 * found.compiled:.2f} %"
    )


def quiet(samples: Samples) -> NDArray[np.float64]:
    """By process, nanoseconds."""
    return np.array([np.percentile(runs, 20) for runs in samples.runs_ns])


def ratio(times: NDArray[np.float64], reference: NDArray[np.float64]) -> str:
    """The median over the processes, and their range."""
    ratios = times / reference
    return f"{np.median(ratios):.3f} ({ratios.min():.3f} to {ratios.max():.3f})"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="networks, data and files")
    parser.add_argument("--shared", type=Path, default=SHARED)
    parser.add_argument("--only", default="", help="networks whose name holds this text")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=2.0, help="per file and process")
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--neural-compressor", type=Path, metavar="PYTHON")
    return parser.parse_args()


if __name__ == "__main__":
    main()
