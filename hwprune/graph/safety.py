"""Opening a model file that nobody has vouched for.

Size and nesting first, then external data, then onnx's own checker, then rules it does not know.
External data was patched three times upstream because checks compared strings (CVE-2022-25882,
CVE-2024-27318, CVE-2026-27489): `hwprune.graph.external` compares what was really opened.
"""

import stat
from collections import Counter
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from hwprune.errors import ModelError, UnsafeModelError, UnsupportedModelError
from hwprune.graph.content import PROTOBUF_LIMIT, check_content, check_numbers
from hwprune.graph.external import LARGER, embed, read_external
from hwprune.graph.proto import (
    control_flow,
    first_line,
    graphs,
    guarded,
    nodes,
    subgraphs,
    tensors,
)
from hwprune.graph.weights import Weights, as_array, separable, set_aside

MAX_BYTES = 4 << 30
MAX_NODES = 20_000
MAX_DEPTH = 4
MIN_OPSET = 9


def load_checked(path: Path, max_bytes: int = MAX_BYTES) -> tuple[onnx.ModelProto, Weights]:
    """Reads one ONNX file with its external data; nothing outside its folder is opened.

    Returns:
        The model, and the large weights that were set aside (`hwprune.graph.weights`).

    Raises:
        ModelError: The file is missing, damaged or inconsistent.
        UnsafeModelError: It breaks a safety rule (size, paths, numbers that are not finite).
        UnsupportedModelError: It is valid, but holds operators that cannot be compiled.
    """
    _check_file(path, max_bytes)
    model = _parse(path)
    check_rules(model)
    apart = separable(model)
    model, weights = set_aside(model, apart, _read_external(model, apart, path, max_bytes))
    check_content(model, weights)
    return model, weights


def load_whole(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """Any ONNX file as it is, its external data taken into it; nothing is asked of its operators.

    Raises:
        ModelError: The file is missing or damaged, or has more than 2 GiB with its external data.
        UnsafeModelError: It breaks a safety rule (size, paths, numbers that are not finite).
    """
    _check_file(path, max_bytes)
    with guarded(f"reading {path}"):
        model = _parse(path)
        outside = _external(model)
        _read_external(model, set(), path, max_bytes)
        check_numbers(model)
        if not outside:
            return path.read_bytes()
        if model.ByteSize() > PROTOBUF_LIMIT:
            raise ModelError(f"{path} has more than 2 GiB with its external data")
        return bytes(model.SerializeToString())


def check_rules(model: onnx.ModelProto) -> None:
    """Refuses what the compiler cannot treat: foreign domains, control flow, old opsets.

    Raises UnsupportedModelError, or UnsafeModelError for too many nodes, or ModelError.
    """
    count = sum(1 for _ in nodes(model))
    if count > MAX_NODES:
        raise UnsafeModelError(f"the model has {count} nodes, the limit is {MAX_NODES}")
    for depth, graph in graphs(model):
        if graph.sparse_initializer:
            raise UnsupportedModelError("sparse initializers are not supported")
        if depth > MAX_DEPTH:
            raise UnsafeModelError(f"branches are nested more than {MAX_DEPTH} deep")
    given = {value.name for value in model.graph.input}
    for node in model.graph.node:
        if twice := given.intersection(node.output):  # onnx's checker lets that pass
            raise ModelError(f"{min(twice)!r} is an input and comes out of node {node.name!r}, too")
    local = {f.domain for f in model.functions}
    for entry in model.opset_import:
        _check_opset(entry.domain, entry.version, local)
    for node in nodes(model):
        if node.domain not in {"", "ai.onnx"} | local:
            raise UnsupportedModelError(
                f"node {node.name!r} uses {node.op_type} of domain {node.domain!r}",
                "export the model with standard ONNX operators only",
            )
        if subgraphs(node) and node.op_type != "If":  # an If may turn out to be decided
            raise control_flow(node)


def _check_file(path: Path, max_bytes: int) -> None:
    try:
        status = path.stat()
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}", "check the path") from error
    if not stat.S_ISREG(status.st_mode):
        raise UnsafeModelError(f"{path} is not a regular file")
    if status.st_size == 0:
        raise ModelError(f"{path} is empty")
    if status.st_size > max_bytes:
        raise UnsafeModelError(
            f"{path} has {status.st_size} bytes, the limit is {max_bytes}", LARGER
        )


def _parse(path: Path) -> onnx.ModelProto:
    try:
        model = onnx.load(str(path), load_external_data=False)  # noqa: TID251 (the one place)
    except (DecodeError, OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not an ONNX model: {first_line(error)}") from error
    if not model.graph.node:
        raise ModelError(f"{path} holds no network")
    return model


def _check_opset(domain: str, version: int, local: set[str]) -> None:
    if domain in {"", "ai.onnx"} and not MIN_OPSET <= version <= onnx.defs.onnx_opset_version():
        raise UnsupportedModelError(
            f"the model uses opset {version}",
            f"export it with opset {MIN_OPSET} to {onnx.defs.onnx_opset_version()}",
        )
    if domain not in {"", "ai.onnx", "ai.onnx.ml"} | local and not domain.startswith("pkg."):
        raise UnsupportedModelError(
            f"the model uses operators of domain {domain!r}",
            "export the model with standard ONNX operators only",
        )


def _read_external(model: onnx.ModelProto, apart: set[str], path: Path, room: int) -> Weights:
    """Reads all external data: the weights in `apart` into arrays, the others into the model."""
    found: Weights = {}
    apart = apart & {t.name for t in model.graph.initializer if _is_external(t)}
    for tensor in _external(model):
        data = read_external(tensor, path, room)
        room -= len(data)
        if tensor.name in apart:
            found[tensor.name] = as_array(tensor, data)
        else:
            embed(tensor, data)
    return found


def _external(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    found = [t for _, t in tensors(model) if _is_external(t)]
    most = Counter(t.name for t in found if t.name)
    repeated = [name for name, count in most.items() if count > 1]
    if repeated:
        raise ModelError(f"several tensors are called {repeated[0]!r}")
    return found


def _is_external(tensor: onnx.TensorProto) -> bool:
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL)
