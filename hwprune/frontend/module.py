"""`nn.Module` to graph, through torch's exporter."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import onnx_graphsurgeon as gs
import torch
from torch import nn

from hwprune.errors import ModelError
from hwprune.graph.read import canonical


def graph_from_module(module: nn.Module, example: tuple[torch.Tensor, ...]) -> gs.Graph:
    """The canonical graph of the module in evaluation mode; initializers keep parameter names.

    Args:
        module: its mode is restored afterwards.
        example: one tensor per input; their shapes, the batch too, become those of the graph.

    Raises:
        ModelError: the exporter cannot follow the module.
    """
    training = module.training
    module.eval()
    try:
        # optimize=True would fold BatchNorm in ways that hide it; canonical() does it by rule
        with _silence():
            program = torch.onnx.export(module, example, dynamo=True, optimize=False, verbose=False)
    except torch.onnx.OnnxExporterError as e:
        raise ModelError(
            f"{type(module).__name__} cannot be exported to ONNX: {_reason(e)}",
            "try torch.onnx.export(module, example, dynamo=True) by itself, or bring an .onnx file",
        ) from e
    finally:
        module.train(training)
    if program is None:
        raise ModelError(f"{type(module).__name__}: the exporter returned nothing")
    return canonical(program.model_proto)


def _reason(error: BaseException) -> str:
    """The first line of the innermost cause; the exporter's own text is a page of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).splitlines() or [type(error).__name__])[0]


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """The exporter talks about packages nobody asked for."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
