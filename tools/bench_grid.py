#!/usr/bin/env python3
"""How well few measured rows price every width: a dozen kernels against fully measured grids.

    python tools/bench_grid.py --work DIR [--threads 1] [--most 96] [--target cpu]

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
from hwprune.latency.sweeps import conv, sweep, sweepable, teeth_of
from hwprune.latency.table import LatencyTable
from hwprune.registry import get_backend
from hwprune.stages.profiling import Rows
from hwprune.testing.kernels import named

LEAST, DOUBTFUL = 4, 4  # channels; members measured on top of a family's grid
Grid = tuple[str, list[Kernel]]


def main() -> None:
    options = _options()
    options.work.mkdir(parents=True, exist_ok=True)
    backend = get_backend(options.target)
    errors: list[float] = []
    print("| kernel | grid | rows | sweep rows | s | median % | 95 % | worst % |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    with LatencyTable(options.work / "latency.db", backend.identity(), options.threads) as table:
        for name, members in grids(backend.capabilities().layouts, options.most):
            errors += judged(name, members, table, backend)
    print(f"| all | | | | | {summary(errors)} |")


def judged(name: str, members: list[Kernel], table: LatencyTable, backend: Backend) -> list[float]:
    """Relative errors of all members that have no row in the prediction; prints a line."""
    families = Families()
    families.add(name, members)
    begin, layouts = time.monotonic(), backend.capabilities().layouts
    rows = Rows(table, backend, lambda *_: None)
    sweeps = {c: sweep(c, layouts) for c in sweepable(c for f in families for c in f.classes)}
    teeth = teeth_of(sweeps, rows.of([k for kernels in sweeps.values() for k in kernels.values()]))
    swept = rows.measured
    known = rows.of(families.wanted())
    families.load(known, teeth)
    known |= rows.of(families.doubtful(DOUBTFUL))
    families.load(known, teeth)
    seconds = time.monotonic() - begin
    truth = rows.of(members)
    errors = []
    for family in families:
        left = [k for k in family.members if k not in known]
        guesses = family.predict(left)[0] if left else []
        errors += [abs(ns / truth[k] - 1) for k, ns in zip(left, guesses)]
    cells = f"{len(members)} | {len(known)} | {swept} | {seconds:.0f} | {summary(errors)}"
    print(f"| {name} | {cells} |", flush=True)
    return errors


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
        yield f"Add {p}", [_elementwise("Add", p, 2, (1, n, 28, 28)) for n in counts]
    yield "MatMul fp32, in", [_product(n, 64) for n in counts]
    yield "Softmax fp32", [_elementwise("Softmax", "fp32", 1, (1, 4, 64, n)) for n in counts]


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
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--most", type=int, default=96)
    parser.add_argument("--target", default="cpu")
    return parser.parse_args()


if __name__ == "__main__":
    main()
