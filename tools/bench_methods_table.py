"""All rows side by side: timed in turns with the original, judged on images nobody has seen."""

import argparse
import json
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from statistics import mean, stdev

from bench_methods_prepare import job_of
from bench_methods_rows import NAMES, Row, row_path

from hwprune.graph.cost import macs
from hwprune.registry import get_backend
from hwprune.stages.sources import Job
from hwprune.stages.timing import summarise
from hwprune.verify.outputs import file_outputs

SECONDS = 0.5  # per file and process
PROCESSES = 6


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


def rows_of(args: argparse.Namespace) -> Iterator[Row]:
    """Those that are there, in the order of the methods."""
    for name, seed in product(NAMES, range(args.seeds)):
        path = row_path(args.work, args.protocol, name, seed)
        if path.exists():
            yield Row(**json.loads(path.read_text()))


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
