"""Products with a matrix in every kernel that the target has: times as ratios to fp32.

    python tools/bench_matrices.py [--only TEXT] [--seconds 1.0] [--processes 3]

Each product is a file of its own for every kernel, written by the very lowering that `compile`
uses; the files of one shape are timed in turns, and the medians of the quiet runs (20th percentile)
are compared. `int8` reads and writes fp32, as a single layer would: its quantisation is part of it.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import TensorProto, helper, numpy_helper

from hwprune.backend import Backend, Samples
from hwprune.export.lower import lower
from hwprune.export.placeholder import placeholder_encodings
from hwprune.graph.read import canonical
from hwprune.registry import get_backend

QUIET = 20


@dataclass(frozen=True)
class Product:
    """`rows x inner` times `inner x outputs`."""

    name: str
    rows: int
    inner: int
    outputs: int


PRODUCTS = (
    Product("MLP 4096", 1, 4096, 4096),
    Product("VGG-16 head, a quarter", 1, 25088, 1024),
    Product("VGG-16 head, last", 1, 4096, 1000),
    Product("ViT-B projection", 197, 768, 768),
    Product("ViT-Ti projection", 197, 192, 192),
    Product("ViT-Ti MLP in", 197, 192, 768),
    Product("ViT-Ti MLP out", 197, 768, 192),
    Product("ViT-Ti projection, 1 row", 1, 192, 192),
    Product("16 rows of 768", 16, 768, 768),
)


def main() -> None:
    options = _options()
    backend = get_backend("cpu")
    print(f"{backend.identity().device}, {backend.identity().runtime}, {options.threads} thread(s)")
    kernels = ("fp32", *sorted(backend.capabilities().precisions["MatMul"]))
    print("| product | rows x inner x outputs | fp32 us |", " | ".join(kernels[1:]), "|")
    print("|---|---|--:|" + "--:|" * (len(kernels) - 1))
    for product in (p for p in PRODUCTS if options.only in p.name):
        ns = timed(product, kernels, backend, options)
        shape = f"{product.rows} x {product.inner} x {product.outputs}"
        ratios = " | ".join(f"{t / ns[0]:.2f}" for t in ns[1:])
        print(f"| {product.name} | {shape} | {ns[0] / 1e3:.1f} | {ratios} |")
        sys.stdout.flush()


def timed(
    product: Product, kernels: Sequence[str], backend: Backend, options: argparse.Namespace
) -> list[float]:
    """Nanoseconds of the product in each kernel, of files timed in turns."""
    graph = canonical(model_of(product))
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{i}.onnx" for i in range(len(kernels))]
        for path, kernel in zip(files, kernels, strict=True):
            path.write_bytes(written(graph, kernel, backend).SerializeToString())
        seconds = options.seconds * len(files)
        samples = backend.time_models(files, options.threads, seconds, options.processes)
    return [quiet(s) for s in samples]


def written(graph: gs.Graph, kernel: str, backend: Backend) -> onnx.ModelProto:
    """The file of a graph with its product in `kernel`."""
    able, chosen = backend.capabilities(), {node.name: kernel for node in graph.nodes}
    return lower(graph, chosen, placeholder_encodings(graph, chosen, able), able)


def model_of(product: Product) -> onnx.ModelProto:
    """A Gemm with its bias, of random weights."""
    rng = np.random.default_rng(0)
    values = {
        "weight": rng.normal(size=(product.inner, product.outputs)) / product.inner**0.5,
        "bias": rng.normal(size=product.outputs),
    }
    constants = [numpy_helper.from_array(v.astype(np.float32), n) for n, v in values.items()]
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, (product.rows, width))
        for name, width in (("x", product.inner), ("y", product.outputs))
    )
    nodes = [helper.make_node("Gemm", ["x", "weight", "bias"], ["y"], name="product")]
    graph = helper.make_graph(nodes, "product", [x], [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def quiet(samples: Samples) -> float:
    """The middle of what the processes saw, in their quiet runs."""
    return float(np.median([np.percentile(runs, QUIET) for runs in samples.runs_ns]))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="products whose name holds this text")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.0, help="per file and process")
    parser.add_argument("--processes", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
