"""A parsed model as nested messages, and what its libraries raise on damaged ones."""

from collections.abc import Iterator
from contextlib import contextmanager

import onnx

from hwprune.errors import HwpruneError, ModelError


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


def nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """All nodes, those of local functions too."""
    yield from model.graph.node
    for function in model.functions:
        yield from function.node


def tensors(model: onnx.ModelProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """All tensors, by the name that nodes read them by."""
    yield from ((tensor.name, tensor) for tensor in model.graph.initializer)
    for node in nodes(model):
        for attribute in node.attribute:
            own = [attribute.t] if attribute.HasField("t") else []
            yield from ((node.output[0], tensor) for tensor in (*own, *attribute.tensors))


def first_line(error: Exception) -> str:
    """Library messages quote names from the file: only printable text, and not much of it."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return text[:300].encode("ascii", "backslashreplace").decode()
