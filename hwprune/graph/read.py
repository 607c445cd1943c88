"""From an ONNX file to the canonical graph that every stage works on, and back."""

from collections.abc import Mapping
from pathlib import Path

import onnx
import onnx_graphsurgeon as gs

from hwprune.errors import ModelError
from hwprune.graph.batchnorm import fold_batchnorm
from hwprune.graph.content import check_content
from hwprune.graph.einsum import replace_einsums
from hwprune.graph.fold import check_float, converted, decided, fold_constants, fold_rest, inlined
from hwprune.graph.padding import merge_padding
from hwprune.graph.proto import guarded
from hwprune.graph.safety import MAX_BYTES, check_rules, load_checked
from hwprune.graph.shapes import Shape, bind_inputs, check_static, infer
from hwprune.graph.tidy import name_nodes, tidy
from hwprune.graph.views import replace_views
from hwprune.graph.weights import (
    Weights,
    put_back,
    read_apart,
    separable,
    set_aside,
    write_apart,
)


def read_graph(
    path: Path,
    shapes: Mapping[str, Shape] | None = None,
    batch: int = 1,
    max_bytes: int = MAX_BYTES,
) -> gs.Graph:
    """Reads an ONNX file safely and brings it into canonical form.

    Args:
        path: The file; external data is looked for in its folder only.
        shapes: Static shape per input, needed where more than the batch is dynamic.
        batch: Value of a leading symbolic dimension.
        max_bytes: What the file and its external data may have together.

    Raises:
        ModelError: Not readable, not safe or not supported; the subclasses tell which.
        UsageError: An input's shape is missing or wrong.
    """
    with guarded(f"reading {path}"):
        return _canonical(*load_checked(path, max_bytes), shapes or {}, batch)


def write_graph(graph: gs.Graph, path: Path) -> None:
    """Writes a canonical graph for `read_written`, and uses it up; large weights go beside it."""
    onnx.save_model(write_apart(graph, _beside(path)), path)


def read_written(path: Path) -> gs.Graph:
    """What `write_graph` wrote, and nobody else could have changed."""
    graph = read_apart(onnx.load(str(path)), _beside(path))  # noqa: TID251 (our own file)
    tidy(graph)
    return graph.toposort()


def canonical(
    model: onnx.ModelProto, shapes: Mapping[str, Shape] | None = None, batch: int = 1
) -> gs.Graph:
    """The canonical graph of a model in memory (left unchanged).

    Static shapes, opset 17 to 26, sorted, unique node and tensor names, no Constant, Identity or
    Dropout nodes, constant sub-graphs folded, BatchNormalization folded into the layer in front.
    Raises as `read_graph`.
    """
    with guarded("reading the model"):
        check_rules(model)
        copy, weights = set_aside(model, separable(model), {})
        check_content(copy, weights)
        return _canonical(copy, weights, shapes or {}, batch)


def _canonical(
    model: onnx.ModelProto, weights: Weights, shapes: Mapping[str, Shape], batch: int
) -> gs.Graph:
    bind_inputs(model, shapes, batch, weights)
    name_nodes(model)
    model = fold_constants(converted(inlined(decided(model))))
    check_float(model)
    check_static(model)
    graph = gs.import_onnx(model)
    fold_rest(graph)
    put_back(graph, weights)
    replace_views(graph)
    replace_einsums(graph)
    merge_padding(graph)
    tidy(graph)
    fold_batchnorm(graph)
    if not graph.nodes:
        raise ModelError("nothing in this model depends on its inputs")
    return graph.toposort()


def to_proto(graph: gs.Graph) -> onnx.ModelProto:
    """The graph as an ONNX model with inferred shapes.

    It imports the domains that its nodes are of: copies of a graph share their imports, and a
    lowered one adds the runtime's own.
    """
    model = gs.export_onnx(graph)
    used = {""}.union(n.domain for n in model.graph.node)
    imported = [o for o in model.opset_import if o.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(imported)
    return infer(model)


def clone(graph: gs.Graph) -> gs.Graph:
    """A deep copy: neither nodes nor weights are shared with the original."""
    copy = graph.copy()
    for tensor in copy.tensors().values():
        if isinstance(tensor, gs.Constant):
            tensor.values = tensor.values.copy()
    return copy


def _beside(path: Path) -> Path:
    return path.with_suffix(".weights")
