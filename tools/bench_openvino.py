#!/usr/bin/env python3
"""The same quantised files in onnxruntime and in OpenVINO, timed in turns.

    pip install openvino
    python tools/bench_openvino.py FILE.onnx ... [--threads 1] [--seconds 3] [--processes 3]

Fixed shapes, one made-up input. Each fresh process runs both, a few runs at a time, and tells their
20th percentiles; a row has the medians over processes, and the ratio's range.
"""

import argparse
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

TURN, PERCENTILE = 5, 20
Feed = dict[str, NDArray[np.float32]]


def main() -> None:
    options = _options()
    print("| file | threads | onnxruntime ms | OpenVINO ms | OpenVINO to onnxruntime |")
    print("|---|--:|--:|--:|--:|")
    for path in options.files:
        name = "/".join(path.parts[-2:])
        try:
            cells = compared(path, options)
        except Exception as error:  # whatever either runtime says
            cells = f"| | fails: {type(error).__name__}"
        print(f"| {name} | {options.threads} | {cells} |", flush=True)


def compared(path: Path, options: argparse.Namespace) -> str:
    """Milliseconds of both, and their ratio."""
    asked = (path, options.threads, options.seconds)
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        found = np.array([pool.apply(in_turns, asked) for _ in range(options.processes)])
    ratios = found[:, 1] / found[:, 0]
    first, second = np.median(found, axis=0) / 1e6
    spread = f"{ratios.min():.3f} to {ratios.max():.3f}"
    return f"{first:.3f} | {second:.3f} | {np.median(ratios):.3f} ({spread})"


def in_turns(path: Path, threads: int, seconds: float) -> tuple[float, float]:
    """Nanoseconds of a run in onnxruntime and in OpenVINO."""
    feed = made_up(path)
    calls = [in_onnxruntime(path, threads, feed), in_openvino(path, threads, feed)]
    seen: list[list[int]] = [[] for _ in calls]
    begin = time.perf_counter()
    while time.perf_counter() - begin < seconds:
        for call, times in zip(calls, seen, strict=True):
            call()
            for _ in range(TURN):
                start = time.perf_counter_ns()
                call()
                times.append(time.perf_counter_ns() - start)
    one, other = (float(np.percentile(times, PERCENTILE)) for times in seen)
    return one, other


def in_onnxruntime(path: Path, threads: int, feed: Feed) -> Callable[[], object]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, feed)


def in_openvino(path: Path, threads: int, feed: Feed) -> Callable[[], object]:
    import openvino

    core = openvino.Core()
    wanted = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(str(path), "CPU", wanted).create_infer_request()
    return lambda: request.infer(feed)


def made_up(path: Path) -> Feed:
    rng = np.random.default_rng(0)
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    shapes = {
        v.name: [n if isinstance(n, int) else 1 for n in v.shape] for v in session.get_inputs()
    }
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--processes", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
