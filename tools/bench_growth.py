#!/usr/bin/env python3
"""How long reading and grouping take, and how much memory, as networks grow.

    python tools/bench_growth.py [--nodes 500,1000,2000,5000] [--layers 2,6,12,24]

First chains of residual blocks (ReLU, Conv, BatchNormalization, Add) by number of nodes, then BERT
shapes by number of layers: width 1024, 16 heads, an MLP of 4096, 30,522 tokens, their random
weights in a file beside the model; 24 layers are BERT-large. Every row is a process of its own;
memory is the largest resident size of that process and of the child that reads for it.
"""

import argparse
import json
import multiprocessing
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH, HEADS, HIDDEN, TOKENS, LENGTH = 1024, 16, 4096, 30_522, 128


def main() -> None:
    options = _options()
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return
    print("| network | nodes | parameters | file MB | s | groups | MB here | MB child |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        for count in options.nodes:
            made(chain, count, path)
            report(f"{count} nodes", path)
        for count in options.layers:
            made(bert, count, path)
            report(f"BERT, {count} layers", path)


def made(make: Callable[[int, Path], None], count: int, path: Path) -> None:
    """Makes a network in a process of its own: what is started later inherits our largest size."""
    maker = multiprocessing.get_context("spawn").Process(target=make, args=(count, path))
    maker.start()
    maker.join()
    if maker.exitcode:
        sys.exit(f"making the network failed with status {maker.exitcode}")


def report(name: str, path: Path) -> None:
    """One row, measured in a fresh process."""
    size = sum(f.stat().st_size for f in path.parent.iterdir())
    command = [sys.executable, "-P", __file__, "--measure", str(path)]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    print(
        f"| {name} | {found['nodes']} | {found['params'] / 1e6:.1f} M | {size / 1e6:.0f} "
        f"| {found['seconds']:.1f} | {found['groups']} | {found['here']:.0f} "
        f"| {found['child']:.0f} |",
        flush=True,
    )


def measure(path: Path) -> dict[str, float]:
    """`hwprune inspect`, timed from before its imports on."""
    begin = time.perf_counter()
    import hwprune

    found = hwprune.inspect(str(path))
    seconds = time.perf_counter() - begin
    kilobytes = (
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    here, child = (k * 1024 / 1e6 for k in kilobytes)
    return {
        "nodes": found.nodes,
        "params": found.params,
        "groups": len(found.groups),
        "seconds": seconds,
        "here": here,
        "child": child,
    }


def chain(count: int, path: Path) -> None:
    """Residual blocks of four nodes each, eight channels wide."""
    rng = np.random.default_rng(0)
    weights, nodes, x = {}, [], "x"
    for i in range(count // 4):
        weights[f"w{i}"] = rng.standard_normal((8, 8, 3, 3)).astype(np.float32) / 9
        for j, low in enumerate((0.5, -0.5, -0.5, 0.5)):
            weights[f"b{i}.{j}"] = rng.uniform(low, 1.5, 8).astype(np.float32)
        norms = [f"b{i}.{j}" for j in range(4)]
        nodes += [
            helper.make_node("Relu", [x], [f"r{i}"], f"relu{i}"),
            helper.make_node("Conv", [f"r{i}", f"w{i}"], [f"c{i}"], f"conv{i}", pads=[1] * 4),
            helper.make_node("BatchNormalization", [f"c{i}", *norms], [f"n{i}"], f"norm{i}"),
            helper.make_node("Add", [f"n{i}", x], [f"a{i}"], f"add{i}"),
        ]
        x = f"a{i}"
    _save(nodes, weights, {"x": (TensorProto.FLOAT, [1, 8, 8, 8])}, x, [1, 8, 8, 8], path)


def bert(layers: int, path: Path) -> None:
    """An encoder as exporters write it, pre-normalised, with separate projections."""
    rng = np.random.default_rng(0)
    weights: dict[str, np.ndarray] = {
        "tokens": rng.standard_normal((TOKENS, WIDTH), np.float32),
        "places": rng.standard_normal((1, LENGTH, WIDTH), np.float32),
        "split": np.array([0, LENGTH, HEADS, WIDTH // HEADS]),
        "join": np.array([0, LENGTH, WIDTH]),
    }
    nodes = [
        helper.make_node("Gather", ["tokens", "ids"], ["e"], "embed"),
        helper.make_node("Add", ["e", "places"], ["x0"], "place"),
    ]

    def add(op: str, inputs: list[str], name: str, **attributes: object) -> str:
        nodes.append(helper.make_node(op, inputs, [f"{name}.out"], name, **attributes))
        return f"{name}.out"

    def linear(x: str, name: str, i: int, o: int) -> str:
        weights[f"{name}.w"] = rng.standard_normal((i, o), np.float32) / 32
        weights[f"{name}.b"] = np.zeros(o, np.float32)
        return add("Add", [add("MatMul", [x, f"{name}.w"], name), f"{name}.b"], f"{name}.bias")

    def norm(x: str, name: str) -> str:
        weights[f"{name}.g"], weights[f"{name}.b"] = np.ones((2, WIDTH), np.float32)
        return add("LayerNormalization", [x, f"{name}.g", f"{name}.b"], name, axis=-1)

    x = "x0"
    for i in range(layers):
        y, parts = norm(x, f"{i}.before"), []
        for part, order in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
            p = add("Reshape", [linear(y, f"{i}.{part}", WIDTH, WIDTH), "split"], f"{i}.{part}.cut")
            parts.append(add("Transpose", [p], f"{i}.{part}.turn", perm=order))
        scores = add("Softmax", [add("MatMul", parts[:2], f"{i}.scores")], f"{i}.softmax", axis=-1)
        mixed = add("MatMul", [scores, parts[2]], f"{i}.mix")
        mixed = add("Transpose", [mixed], f"{i}.back", perm=[0, 2, 1, 3])
        joined = add("Reshape", [mixed, "join"], f"{i}.join")
        x = add("Add", [linear(joined, f"{i}.o", WIDTH, WIDTH), x], f"{i}.attended")
        y = linear(norm(x, f"{i}.after"), f"{i}.up", WIDTH, HIDDEN)
        y = linear(add("Relu", [y], f"{i}.relu"), f"{i}.down", HIDDEN, WIDTH)
        x = add("Add", [y, x], f"{i}.out")
    _save(nodes, weights, {"ids": (TensorProto.INT64, [1, LENGTH])}, x, [1, LENGTH, WIDTH], path)


def _save(
    nodes: list[onnx.NodeProto],
    weights: dict[str, np.ndarray],
    inputs: dict[str, tuple[int, list[int]]],
    output: str,
    shape: list[int],
    path: Path,
) -> None:
    for old in path.parent.iterdir():
        old.unlink()
    graph = helper.make_graph(
        [*nodes, helper.make_node("Identity", [output], ["y"], "answer")],
        "grown",
        [helper.make_tensor_value_info(n, kind, dims) for n, (kind, dims) in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save_model(model, path, save_as_external_data=True, location="weights.bin")


def _options() -> argparse.Namespace:
    def numbers(text: str) -> list[int]:
        return [int(part) for part in text.split(",") if part]

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=numbers, default=[500, 1000, 2000, 5000])
    parser.add_argument("--layers", type=numbers, default=[2, 6, 12, 24])
    parser.add_argument("--measure", type=Path, help="measure this file (used by the tool itself)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
