"""A parsed model as nested messages, and what its libraries raise on damaged ones."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import onnx

from hwprune.errors import HwpruneError, ModelError, UnsupportedModelError


@contextmanager
def guarded(step: str) -> Iterator[None]:
    """Turns whatever a library raises on a damaged model into a ModelError that names the step.

    Fuzzing finds exceptions of many types here (even UnicodeDecodeError from inside an error
    message of onnx), so a list of types would never be complete.
    """
    try:
        yield
    except HwpruneError:
        raise
    except Exception as error:
        raise ModelError(f"{step} failed: {first_line(error)}") from error


def graphs(model: onnx.ModelProto) -> Iterator[tuple[int, onnx.GraphProto]]:
    """The graph and all graphs within nodes, each with its depth: 0 for the outermost."""
    yield 0, model.graph
    yield from _within(model.graph.node, 1)
    for function in model.functions:
        yield from _within(function.node, 1)


def nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """All nodes, those of local functions and of branches too."""
    for _, graph in graphs(model):
        yield from graph.node
    for function in model.functions:
        yield from function.node


def subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """The graphs that a node of control flow chooses from or repeats."""
    return [g for a in node.attribute for g in (*([a.g] if a.HasField("g") else []), *a.graphs)]


def tensors(model: onnx.ModelProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """All tensors, by the name that nodes read them by."""
    for _, graph in graphs(model):
        yield from ((tensor.name, tensor) for tensor in graph.initializer)
    for node in nodes(model):
        for attribute in node.attribute:
            own = [attribute.t] if attribute.HasField("t") else []
            yield from ((node.output[0], tensor) for tensor in (*own, *attribute.tensors))


def control_flow(node: onnx.NodeProto) -> UnsupportedModelError:
    """What to say about a node that chooses or repeats at run time."""
    return UnsupportedModelError(
        f"node {node.name!r} ({node.op_type}) is control flow, which is not supported",
        "export the network with fixed shapes, or without what comes after it",
    )


def _within(found: Iterable[onnx.NodeProto], depth: int) -> Iterator[tuple[int, onnx.GraphProto]]:
    for node in found:
        for graph in subgraphs(node):
            yield depth, graph
            yield from _within(graph.node, depth + 1)


def first_line(error: Exception) -> str:
    """Library messages quote names from the file: only printable text, and not much of it."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return text[:300].encode("ascii", "backslashreplace").decode()
