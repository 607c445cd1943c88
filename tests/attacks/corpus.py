"""Files that attack whoever opens them; each is made in a folder of its own.

The list follows what onnx's loader, its checker, onnx-ir, graphsurgeon and onnxruntime were seen to
accept, to hang on or to crash on.
"""

import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, external_data_helper, helper, numpy_helper

SECRET = b"\x11" * 4096
WIDTH = 8


def network(*nodes, weights=None, opset=17, domains=(), functions=(), shape=(1, WIDTH)):
    """x -> y; without nodes, one Gemm with the weight `w`."""
    nodes = nodes or (helper.make_node("Gemm", ["x", "w"], ["y"], "gemm"),)
    weights = {"w": np.ones((WIDTH, WIDTH), np.float32)} if weights is None else weights
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["a", "b"])
    constants = [numpy_helper.from_array(v, n) for n, v in weights.items()]
    graph = helper.make_graph(list(nodes), "g", [x], [y], constants)
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=list(functions))


def save(model: onnx.ModelProto, folder: Path) -> Path:
    """Without any check."""
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def raw(content: bytes) -> Callable[[Path], Path]:
    """A file of these bytes."""

    def make(folder: Path) -> Path:
        path = folder / "model.onnx"
        path.write_bytes(content)
        return path

    return make


def built(*args, **options) -> Callable[[Path], Path]:
    """A network of these nodes."""
    return lambda folder: save(network(*args, **options), folder)


def changed(change: Callable[[onnx.ModelProto], object]) -> Callable[[Path], Path]:
    """The plain network with one thing wrong."""

    def make(folder: Path) -> Path:
        model = network()
        change(model)
        return save(model, folder)

    return make


def external(location: str, prepare=lambda folder: None, **entries: object):
    """The weight lies in another file; `prepare` puts something there."""

    def make(folder: Path) -> Path:
        inside = folder / "model"
        inside.mkdir()
        (folder / "secret").write_bytes(SECRET)
        (inside / "weights").write_bytes(np.ones((WIDTH, WIDTH), np.float32).tobytes())
        model = network()
        tensor = model.graph.initializer[0]
        external_data_helper.set_external_data(tensor, location)
        tensor.ClearField("raw_data")
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=str(value))
        prepare(inside)
        return save(model, inside)

    return make


def nested_ifs(depth: int) -> onnx.NodeProto:
    """`If` within `If`."""
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    last = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "last", [], [out])
    branch = last
    for level in range(depth):
        node = helper.make_node(
            "If", ["c"], ["y"], f"if{level}", then_branch=branch, else_branch=last
        )
        branch = helper.make_graph([node], f"b{level}", [], [out])
    return node


def _recursive() -> onnx.FunctionProto:
    body = [helper.make_node("F", ["a"], ["b"], domain="pkg.own")]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("pkg.own", 1)]
    return helper.make_function("pkg.own", "F", ["a"], ["b"], body, opsets)


def _chain(count: int) -> onnx.ModelProto:
    names = ["x", *(f"t{i}" for i in range(count - 1)), "y"]
    nodes = [helper.make_node("Relu", [a], [b]) for a, b in pairwise(names)]
    return network(*nodes)


def _sparse(folder: Path) -> Path:
    (folder / "secret").write_bytes(SECRET)
    model = network()
    values = helper.make_tensor("s", TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("i", TensorProto.INT64, [1], [0])
    for tensor in (values, indices):
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="../secret")
    sparse = helper.make_sparse_tensor(values, indices, [WIDTH, WIDTH])
    model.graph.sparse_initializer.append(sparse)
    inside = folder / "model"
    inside.mkdir()
    return save(model, inside)


def _in_a_branch(folder: Path) -> Path:
    """External data that only a branch reads, and its condition chooses."""
    (folder / "secret").write_bytes(SECRET)
    inside = folder / "model"
    inside.mkdir()
    weight = numpy_helper.from_array(np.ones((WIDTH, WIDTH), np.float32), "w")
    external_data_helper.set_external_data(weight, "../secret")
    weight.ClearField("raw_data")
    out = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    branch = helper.make_graph([GEMM], "branch", [], out, [weight])
    node = helper.make_node("If", ["c"], ["y"], "if", then_branch=branch, else_branch=branch)
    return save(network(node, weights={"c": np.array(True)}), inside)


def _symbolic(text: str) -> Callable[[Path], Path]:
    def change(model: onnx.ModelProto) -> None:
        model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = text

    return changed(change)


def _filled(value: float) -> Callable[[Path], Path]:
    return built(weights={"w": np.full((WIDTH, WIDTH), value, np.float32)})


def _sizes(*dims: int) -> dict[str, np.ndarray]:
    return {"n": np.array(dims, np.int64)}


GEMM = helper.make_node("Gemm", ["x", "w"], ["y"], "gemm")
GOOD = {
    "plain": built(),
    "weights beside it": external("weights"),
    "weights behind a link in the folder": external(
        "link", lambda inside: (inside / "link").symlink_to(inside / "weights")
    ),
    "an unused key": external("weights", checksum="0"),
}
BAD: dict[str, Callable[[Path], Path]] = {
    "empty": raw(b""),
    "truncated": lambda folder: raw(network().SerializeToString()[:-40])(folder),
    "random bytes": raw(np.random.default_rng(0).bytes(5000)),
    "text": raw(b"this is not a network\n" * 50),
    "zip": raw(b"PK\x03\x04" + b"\x00" * 500),
    "cycle": built(
        helper.make_node("Add", ["x", "b"], ["a"], "a"),
        helper.make_node("Relu", ["a"], ["b"], "b"),
        helper.make_node("Relu", ["b"], ["y"], "y"),
    ),
    "nodes out of order": built(
        helper.make_node("Relu", ["a"], ["y"], "second"),
        helper.make_node("Gemm", ["x", "w"], ["a"], "first"),
    ),
    "dangling input": built(helper.make_node("Add", ["x", "nothing"], ["y"], "add")),
    "only constants": built(
        helper.make_node("Add", ["w", "w"], ["y"], "add"), weights={"w": np.ones((2, 2), "f4")}
    ),
    "no outputs": changed(lambda m: m.graph.ClearField("output")),
    "a name for an input and an output": built(
        helper.make_node("Relu", ["x"], ["a"], "a"), helper.make_node("Neg", ["a"], ["x"], "b"),
        helper.make_node("Neg", ["x"], ["y"], "c"),
    ),
    "one name for two outputs": built(
        helper.make_node("Relu", ["x"], ["y"], "a"), helper.make_node("Neg", ["x"], ["y"], "b")
    ),
    "shapes that disagree": built(weights={"w": np.ones((WIDTH + 1, 3), np.float32)}),
    "data shorter than the shape": changed(
        lambda m: m.graph.initializer[0].__setattr__("raw_data", b"\0" * 8)
    ),
    "a dimension of 2^40": changed(lambda m: m.graph.initializer[0].dims.__setitem__(0, 1 << 40)),
    "a negative dimension": changed(lambda m: m.graph.initializer[0].dims.__setitem__(0, -WIDTH)),
    "unknown operator": built(helper.make_node("Steal", ["x"], ["y"], "steal")),
    "unknown domain": built(
        helper.make_node("Relu", ["x"], ["y"], "relu", domain="com.evil"), domains=["com.evil"]
    ),
    "opset 999": built(opset=999),
    "NaN": _filled(np.nan),
    "infinity": _filled(np.inf),
    "ConstantOfShape of 32 GiB": built(
        helper.make_node("ConstantOfShape", ["n"], ["a"], "bomb"),
        helper.make_node("ReduceSum", ["a"], ["s"], "sum", keepdims=0),
        helper.make_node("Add", ["x", "s"], ["y"], "add"),
        weights=_sizes(1 << 33),
    ),
    "Tile to 2^33": built(
        helper.make_node("Tile", ["x", "n"], ["y"], "bomb"), weights=_sizes(1 << 31, 1)
    ),
    "Expand to 2^40": built(
        helper.make_node("Expand", ["x", "n"], ["y"], "bomb"), weights=_sizes(1 << 37, WIDTH)
    ),
    "Pad to 2^40": built(
        helper.make_node("Pad", ["x", "n"], ["y"], "bomb"), weights=_sizes(0, 0, 1 << 37, 0)
    ),
    "20 nested Ifs": built(nested_ifs(20), weights={"c": np.array(True)}),
    "31 nested Ifs": built(nested_ifs(31), weights={"c": np.array(True)}),
    "a function that calls itself": built(
        helper.make_node("F", ["x"], ["y"], "f", domain="pkg.own"),
        domains=["pkg.own"],
        functions=[_recursive()],
    ),
    "200 000 nodes": lambda folder: save(_chain(200_000), folder),
    "external: ../": external("../secret"),
    "external: a/../..": external("a/../../secret"),
    "external: absolute": lambda folder: external(str(folder / "secret"))(folder),
    "external: a device": external("/dev/zero"),
    "external: no name": external(""),
    "external: link out": external(
        "link", lambda inside: (inside / "link").symlink_to(inside.parent / "secret")
    ),
    "external: link to a folder outside": external(
        "link/secret", lambda inside: (inside / "link").symlink_to(inside.parent)
    ),
    "external: link to itself": external(
        "link", lambda inside: (inside / "link").symlink_to(inside / "link")
    ),
    "external: hard link": external(
        "link", lambda inside: os.link(inside.parent / "secret", inside / "link")
    ),
    "external: FIFO": external("fifo", lambda inside: os.mkfifo(inside / "fifo")),
    "external: a folder": external("folder", lambda inside: (inside / "folder").mkdir()),
    "external: missing": external("nothing"),
    "external: length 2^50": external("weights", length=1 << 50),
    "external: negative offset": external("weights", offset=-8),
    "external: not a number": external("weights", offset="0x10"),
    "external: file too short": external(
        "short", lambda inside: (inside / "short").write_bytes(b"\0" * 16)
    ),
    "external: sparse ../": _sparse,
    "external: in a branch": _in_a_branch,
    "dimension 9**9**9**9": _symbolic("9**9**9**9"),
    "dimension of 10 000 brackets": _symbolic("(" * 10_000 + "n" + ")" * 10_000),
    "dimension that imports": _symbolic('__import__("os").system("touch stolen")'),
}  # fmt: skip
