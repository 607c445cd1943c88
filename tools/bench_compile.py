#!/usr/bin/env python3
"""Compiles the reference networks at fixed ratios of their own time and prints one table.

    python tools/bench_compile.py --work DIR [--shared ../shared/data] [--only TEXT] [--epochs]

Every row is a `hwprune compile` of its own, one thread, effort quick; `uniform` and `knapsack` are
the same command with `--search`, `stock int8` is onnxruntime's own static quantisation without any
pruning, timed in turns with the original. Finished rows are kept in DIR/rows.jsonl and not run
again. Quality is measured on the written file, on data that took no part in compiling.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
SEARCHES = ("bo", "knapsack", "uniform")


@dataclass(frozen=True)
class Network:
    """A reference network: what to compile and with which data."""

    name: str
    model: str
    data: tuple[str, ...]
    ratios: tuple[float, ...]
    searches: tuple[str, ...] = SEARCHES


@dataclass(frozen=True)
class Row:
    """One line of the table; latencies in milliseconds."""

    network: str
    budget: str
    method: str
    original: float
    compiled: float
    used: float | None
    predicted: float | None
    metric: str
    before: float | None
    after: float | None
    kilobytes: float
    seconds: float
    verdict: str


def main() -> None:
    options = _options()
    options.work.mkdir(parents=True, exist_ok=True)
    data = unpack(options.shared, options.work / "data")
    store = options.work / "rows.jsonl"
    for network in networks(options.shared, data):
        for task in tasks(network, options):
            if options.only in " ".join((network.name, *task)) and not known(store, network, task):
                row = run(network, *task, data, options)
                with store.open("a") as file:
                    file.write(json.dumps(asdict(row)) + "\n")
                print(line(row), flush=True)
    print_table([Row(**json.loads(text)) for text in store.read_text().splitlines()])


def networks(shared: Path, data: Path) -> Iterator[Network]:
    """The networks of the table."""
    cifar = ("--train-data", f"{data}/cifar10_train.npz", "--eval-data", f"{data}/cifar10_test.npz")
    large = str(shared / "cifar10_resnet_large.onnx")
    yield Network("resnet_large", large, (*cifar, "--scale", "1"), (0.3, 0.2))
    for name, ratios in (("resnet20", (0.6, 0.45)), ("resnet32", (0.5,))):
        weights = ("--weights", str(shared / f"cifar10_{name}.safetensors"))
        yield Network(name, name, (*cifar, *weights), ratios)
    photos = ("--data", f"{data}/photos96.npz")
    vww = str(shared / "vww_mobilenetv1_025_96.onnx")
    yield Network("vww_mobilenetv1", vww, photos, (0.6,), ("bo",))
    grey = ("--data", f"{data}/mnist_unlabelled.npz", "--mean", "0.1307", "--std", "0.3081")
    yield Network("vit_mnist", str(shared / "vit_mnist.onnx"), grey, (0.6,), ("bo",))
    wide = ("--data", f"{data}/photos240x320.npz", "--mean", "0.498", "--std", "0.502")
    yield Network("face_slim", str(shared / "face_slim_320.onnx"), wide, (0.6,), ("bo",))


def tasks(network: Network, options: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """(budget, method) of each row of a network."""
    if options.epochs:
        if network.name in ("resnet_large", "resnet20"):
            yield f"{network.ratios[-1]}x", "bo, 1 epoch"
        return
    yield "-", "stock int8"
    for ratio in network.ratios:
        for search in network.searches:
            yield f"{ratio}x", search


def run(network: Network, budget: str, method: str, data: Path, options: argparse.Namespace) -> Row:
    """Makes one row."""
    if method == "stock int8":
        return stock(network, options.work)
    search, _, trained = method.partition(", ")
    out = options.work / f"{network.name}-{budget}-{method.replace(', ', '-').replace(' ', '')}"
    command = [
        *(
            sys.executable,
            "-P",
            "-c",
            "from hwprune.cli import main; main()",
            "compile",
            network.model,
        ),
        *("--budget", budget, "--threads", "1", "--search", search, "--out", str(out), "--force"),
        *network.data,
        *(("--epochs", "1") if trained else ()),
    ]
    start = time.monotonic()
    with (options.work / f"{out.name}.log").open("w") as log:
        status = subprocess.call(command, stdout=log, stderr=log)
    seconds = time.monotonic() - start
    if not (out / "report.json").exists():
        return Row(network.name, budget, method, 0, 0, None, None, "", None, None, 0, seconds,
                   f"failed, exit {status}")  # fmt: skip
    return from_report(
        network.name, budget, method, json.loads((out / "report.json").read_text()), seconds
    )


def from_report(name: str, budget: str, method: str, report: dict, seconds: float) -> Row:  # type: ignore[type-arg]
    """A row from `report.json`."""
    latency, quality = report["latency_ms"], report["quality"]
    compiled = latency["compiled"]["p50"]
    return Row(
        name,
        budget,
        method,
        latency["original"]["p50"],
        compiled,
        compiled / report["budget"]["latency_ms"],
        latency["predicted"] / compiled,
        quality["metric"],
        quality["original"],
        quality["compiled"],
        report["size_bytes"]["compiled"] / 1e3,
        seconds,
        report["verdict"],
    )


def stock(network: Network, work: Path) -> Row:
    """Onnxruntime's own static int8 (QDQ, per channel, pre-processed) on the whole network."""
    from bench_stock import static as quantize_static

    from hwprune.graph.read import to_proto
    from hwprune.network.run import outputs
    from hwprune.network.twin import to_module
    from hwprune.registry import get_backend
    from hwprune.stages.options import CompileOptions
    from hwprune.stages.quality import report_quality
    from hwprune.stages.sources import load_job
    from hwprune.stages.timing import compare
    from hwprune.units import Budget
    from hwprune.verify.outputs import file_outputs

    job = load_job(CompileOptions(budget=Budget(ratio=1.0), **keywords(network)))
    original = work / f"{network.name}.onnx"
    quantised = work / f"{network.name}-stock.onnx"
    plain, source = to_proto(job.model.graph).SerializeToString(), Path(network.model)
    original.write_bytes(source.read_bytes() if source.suffix == ".onnx" else plain)
    x = job.calibration(256)[0].numpy()
    start = time.monotonic()
    try:
        quantize_static(original, quantised, x)
        evaluation = job.splits.eval
        pixels = evaluation.batch(slice(0, len(evaluation)))
        after = file_outputs(quantised, pixels, 1)
    except Exception as error:
        reason = type(error).__name__
        return Row(network.name, "-", "stock int8", 0, 0, None, None, "", None, None, 0,
                   time.monotonic() - start, f"fails: {reason}")  # fmt: skip
    import torch

    before = outputs(to_module(job.model.graph), torch.from_numpy(pixels))
    quality = report_quality(before, after, evaluation.y, True)
    static = work / f"{network.name}-static.onnx"
    static.write_bytes(plain)
    found = compare(get_backend("cpu"), static, quantised, 1, 2.0, "p50")
    return Row(
        network.name, "-", "stock int8", found.original.p50 / 1e6, found.compiled.p50 / 1e6, None,
        None, quality.metric, quality.original, quality.compiled, quantised.stat().st_size / 1e3,
        time.monotonic() - start, f"{found.ratio:.2f}x",
    )  # fmt: skip


def keywords(network: Network) -> dict[str, object]:
    """The command line's options as those of `CompileOptions`."""
    found: dict[str, object] = {"model": network.model, "threads": 1}
    for flag, value in zip(network.data[::2], network.data[1::2], strict=True):
        name = flag.removeprefix("--").replace("-", "_")
        found[name] = value
        if name in ("mean", "std"):
            found[name] = (float(value),)
        if name == "scale":
            found[name] = float(value)
        if name == "weights":
            found[name] = Path(value)
    return found


def unpack(shared: Path, data: Path) -> Path:
    """The reference images as plain .npz files, and unlabelled photographs at two sizes."""
    subprocess.run(
        [sys.executable, str(shared / "unpack.py"), str(data)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    photos(data / "tiny_imagenet_20_train.npz", data / "photos96.npz", (96, 96), 2000)
    photos(data / "tiny_imagenet_20_train.npz", data / "photos240x320.npz", (240, 320), 400)
    if not (data / "mnist_unlabelled.npz").exists():
        np.savez(data / "mnist_unlabelled.npz", x=np.load(data / "mnist_test.npz")["x"])
    return data


def photos(source: Path, target: Path, size: tuple[int, int], count: int) -> None:
    """The first `count` images of a file, enlarged, without their labels."""
    from PIL import Image

    if target.exists():
        return
    images = np.load(source)["x"][:count]
    large = [
        Image.fromarray(i).resize((size[1], size[0]), Image.Resampling.BILINEAR) for i in images
    ]
    np.savez(target, x=np.stack([np.asarray(i) for i in large]))


def known(store: Path, network: Network, task: tuple[str, str]) -> bool:
    """Whether the row is there already."""
    if not store.exists():
        return False
    rows = [json.loads(text) for text in store.read_text().splitlines()]
    return any((r["network"], r["budget"], r["method"]) == (network.name, *task) for r in rows)


def print_table(rows: list[Row]) -> None:
    """Markdown, in the order the rows were made."""
    print("| network | budget | method | fp32 ms | result ms | of budget | predicted/measured "
          "| quality before | after | kB | s | verdict |")  # fmt: skip
    print("|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|---|")
    for row in rows:
        print(line(row))


def line(row: Row) -> str:
    """One row of the table."""
    cells = [
        row.network, row.budget, row.method, f"{row.original:.3f}", f"{row.compiled:.3f}",
        *("-" if v is None else f"{v:.2f}" for v in (row.used, row.predicted)),
        *(spelled(row.metric, v) for v in (row.before, row.after)),
        f"{row.kilobytes:.0f}", f"{row.seconds:.0f}", row.verdict,
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def spelled(metric: str, value: float | None) -> str:
    """Quality with its unit."""
    if value is None:
        return "-"
    return f"{value:.1f} dB" if metric == "sqnr_db" else f"{100 * value:.2f} %"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--shared", type=Path, default=SHARED)
    parser.add_argument("--only", default="", help="rows whose network, budget or method has this")
    parser.add_argument(
        "--epochs", action="store_true", help="the two rows with one epoch of training"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
