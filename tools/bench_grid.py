#!/usr/bin/env python3
"""How well few measured rows price every width: a dozen kernels against fully measured grids.

    python tools/bench_grid.py --work DIR [--only TEXT] [--plot PNG] [--threads 1] [--most 96]
                               [--target cpu]

Every channel count from 4 to `--most` of one kernel at a time is measured, but what is predicted
comes from the rows alone that `hwprune profile` would have asked for, and from the sweeps that tell
the steps of its class, which are of other shapes and shared by all networks.
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hwprune.backend import Backend, Kernel, Layouts
from hwprune.latency.families import Families
from hwprune.latency.sweeps import conv
from hwprune.latency.table import LatencyTable
from hwprune.registry import get_backend
from hwprune.report.plots import Staircase, staircase_figure, write_png
from hwprune.stages.profiling import Rows, learn
from hwprune.testing.kernels import named

LEAST, DOUBTFUL = 4, 4  # channels; members measured on top of a family's grid
Grid = tuple[str, list[Kernel]]


def main() -> None:
    options = _options()
    options.work.mkdir(parents=True, exist_ok=True)
    backend = get_backend(options.target)
    errors: list[float] = []
    curves: list[Staircase] = []
    print("| kernel | grid | rows | s | median % | 95 % | worst % |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    with LatencyTable(options.work / "latency.db", backend.identity(), options.threads) as table:
        for name, members in grids(backend.capabilities().layouts, options.most):
            if options.only in name:
                curve, missed = judged(name, members, table, backend)
                curves.append(curve)
                errors += missed
    print(f"| all | | | | {summary(errors)} |")
    if options.plot:
        write_png(staircase_figure(curves), options.plot)


def judged(
    name: str, members: list[Kernel], table: LatencyTable, backend: Backend
) -> tuple[Staircase, list[float]]:
    """What was measured and predicted, and the relative errors of all members that have no row in
    the prediction; prints a line.
    """
    families = Families()
    families.add(name, members)
    begin = time.monotonic()
    rows = Rows(table, backend, lambda *_: None)
    known, teeth = learn(families, backend.capabilities().layouts, rows, DOUBTFUL, sweeping=True)
    families.load(known, teeth)
    seconds = time.monotonic() - begin
    truth = rows.mended(members)
    guesses = [predicted(families, name, k) for k in members]
    errors = [abs(ns / truth[k] - 1) for k, (ns, _) in zip(members, guesses) if k not in known]
    cells = f"{len(members)} | {len(known)} | {seconds:.0f} | {summary(errors)}"
    print(f"| {name} | {cells} |", flush=True)
    return staircase(name, {c: truth[k] for c, k in enumerate(members, LEAST)}, guesses), errors


def predicted(families: Families, name: str, kernel: Kernel) -> tuple[float, float]:
    """Nanoseconds and their relative standard deviation."""
    family = families.of(name, kernel)
    assert family is not None
    ns, spread = family.predict([kernel])
    return float(ns[0]), float(spread[0])


def staircase(name: str, truth: dict[int, float], guesses: list[tuple[float, float]]) -> Staircase:
    low, high = ([ns * (1 + sign * 2 * d) for ns, d in guesses] for sign in (-1, 1))
    line = [ns for ns, _ in guesses]
    return Staircase(name, "channels", list(truth), truth, line, low, high)


def summary(errors: list[float]) -> str:
    median, p95 = np.percentile(errors, (50, 95))
    return " | ".join(f"{100 * e:.1f}" for e in (median, p95, max(errors)))


def grids(layouts: Layouts, most: int) -> Iterator[Grid]:
    """Kernels of every kind, one count of each from the least to the most."""
    counts = range(LEAST, most + 1)
    for p in ("fp32", "int8"):
        yield f"Conv 3x3 {p}, out", [conv(p, 32, n, 3, layouts, size=28) for n in counts]
        yield f"Conv 3x3 {p}, in", [conv(p, n, 48, 3, layouts, size=16) for n in counts]
        yield f"Conv 1x1 {p}, out", [conv(p, 64, n, 1, layouts, size=28) for n in counts]
        yield f"Conv depthwise {p}", [conv(p, n, n, 3, layouts, n, size=28) for n in counts]
        yield f"Gemm {p}, out", [_gemm(p, 192, n) for n in counts]
        yield f"Add {p}", [_elementwise("Add", p, 2, (1, n, 14, 14)) for n in counts]
    yield "MatMul fp32, in", [_product(n, 64) for n in counts]
    yield (
        "Softmax fp32, heads",
        [_elementwise("Softmax", "fp32", 1, (1, n, 50, 50)) for n in counts],
    )


def _gemm(precision: str, inputs: int, outputs: int) -> Kernel:
    shapes = ((64, inputs), (inputs, outputs), (outputs,))
    return Kernel("Gemm", precision, shapes, (64, outputs))


def _product(inputs: int, outputs: int) -> Kernel:
    return Kernel("MatMul", "fp32", ((1, 128, inputs), (inputs, outputs)), (1, 128, outputs))


def _elementwise(op: str, precision: str, inputs: int, shape: tuple[int, ...]) -> Kernel:
    attributes = named(axis=-1) if op == "Softmax" else ()
    return Kernel(op, precision, (shape,) * inputs, shape, attributes)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="where the table is kept")
    parser.add_argument("--only", default="", help="kernels whose name holds this text")
    parser.add_argument("--plot", type=Path, help="a picture of all grids measured")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--most", type=int, default=96)
    parser.add_argument("--target", default="cpu")
    return parser.parse_args()


if __name__ == "__main__":
    main()
