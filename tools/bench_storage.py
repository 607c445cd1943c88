#!/usr/bin/env python3
"""What weights of 8 to 1 bits cost in the file, when it is loaded, and when it runs.

    python tools/bench_storage.py [NETWORK ...] [--shared ../shared/data] [--seconds 10]

All of a network's layers run the same int8 kernels; only what their weights are stored in differs.
Ranges and weights are made up: times do not depend on them. Files are run in turns in the same
processes, and loaded in turns; ratios are to 8 bits, of the 20th percentile by process, with the
smallest and the largest. `bytes` are what the file holds for the sake of the weights, as a share
of bits x weights / 8.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import onnxruntime as ort
from bench_networks import networks
from hwprune.backends.cpu import CpuBackend

from hwprune.backend import Samples
from hwprune.export.lower import lower
from hwprune.export.placeholder import placeholder_encodings
from hwprune.graph.read import read_graph
from hwprune.quantize.placement import place
from hwprune.quantize.placement import products as integer_nodes
from hwprune.verify.kernels import products

BITS = (8, 5, 4, 3, 2, 1)


def main() -> None:
    options = _options()
    backend = CpuBackend()
    print("| network | bits | kB | bytes | ms | ratio | load ms | ratio | int8 | fp32 |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for name in options.networks:
        with tempfile.TemporaryDirectory() as folder:
            paths, weights = written(options, name, Path(folder), backend)
            loads = loaded_in_turns(paths, options.loads)
            runs = backend.time_models(paths, 1, options.seconds, options.processes)
            sizes = [path.stat().st_size for path in paths]
            for i, bits in enumerate(BITS):
                share = (sizes[i] - sizes[0] + weights) / (min(bits, 8) * weights / 8)
                load = np.percentile(loads, 20, axis=0)
                print(
                    f"| {name} | {bits} | {sizes[i] / 1e3:.1f} | {share:.3f} "
                    f"| {_quiet(runs[i]).min() / 1e6:.3f} | {_ratio(runs[i], runs[0])} "
                    f"| {load[i] / 1e6:.1f} | {load[i] / load[0]:.2f} "
                    f"| {' | '.join(map(str, products(backend, paths[i])))} |",
                    flush=True,
                )


def written(
    options: argparse.Namespace, name: str, folder: Path, backend: CpuBackend
) -> tuple[list[Path], int]:
    """A file for each of `BITS`, and how many weights are quantised."""
    source = folder / "source.onnx"
    networks(options.shared)[name](source)
    graph = read_graph(source)
    kernels = {node.name: "int8" for node in graph.nodes}
    stated = backend.capabilities()
    paths = [folder / f"{bits}.onnx" for bits in BITS]
    for bits, path in zip(BITS, paths, strict=True):
        narrow = replace(stated, weight_bits=min(bits, stated.weight_bits))
        encodings = placeholder_encodings(graph, kernels, narrow)
        path.write_bytes(lower(graph, kernels, encodings, narrow).SerializeToString())
    quantised = integer_nodes(graph, place(graph, kernels, stated))
    return paths, sum(prod(node.inputs[1].shape) for node in quantised)


def loaded_in_turns(paths: Sequence[Path], count: int) -> np.ndarray:
    """`count x files` nanoseconds from bytes in memory to a session that can run."""
    contents = [path.read_bytes() for path in paths]
    return np.array([[_load_ns(content) for content in contents] for _ in range(count)])


def _load_ns(model: bytes) -> int:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    start = time.perf_counter_ns()
    ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return time.perf_counter_ns() - start


def _quiet(samples: Samples) -> np.ndarray:
    """By process."""
    return np.array([np.percentile(runs, 20) for runs in samples.runs_ns])


def _ratio(samples: Samples, reference: Samples) -> str:
    ratios = _quiet(samples) / _quiet(reference)
    return f"{np.median(ratios):.3f} ({ratios.min():.3f}-{ratios.max():.3f})"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=["resnet20", "resnet18", "mobilenetv2"])
    parser.add_argument("--shared", type=Path, default=Path("../shared/data"))
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--loads", type=int, default=15)
    return parser.parse_args()


if __name__ == "__main__":
    main()
