"""Models that are built in Python: a factory of the user's, or a bundled network."""

from pathlib import Path

import onnx_graphsurgeon as gs
import torch
from torch import nn

from hwprune.errors import UsageError
from hwprune.frontend.factory import call_factory
from hwprune.frontend.loaded import LoadedModel, Shapes
from hwprune.frontend.module import graph_from_module
from hwprune.frontend.weights import assign, load_state_dict
from hwprune.registry import unknown


def from_factory(
    spec: str, weights: Path | None, shapes: Shapes | None, batch: int, max_bytes: int
) -> LoadedModel:
    """What `package.module:factory` returns; the arguments are those of `load_model`."""
    module = call_factory(spec)
    if not isinstance(module, nn.Module):
        raise UsageError(f"{spec!r} returned a {type(module).__name__}, not an nn.Module")
    if not shapes:
        raise UsageError(
            f"{spec!r}: what shape is its input?", "say it, batch first: --shape x=1,3,32,32"
        )
    if weights is not None:
        assign(module, load_state_dict(weights, max_bytes), weights)
    name = spec.partition(":")[2]
    return LoadedModel(name, _described(spec, weights), _export(module, shapes, batch))


def bundled(
    name: str, weights: Path | None, shapes: Shapes | None, batch: int, max_bytes: int
) -> LoadedModel:
    """One of `hwprune.models`; the arguments are those of `load_model`."""
    from hwprune.models import MODELS

    if name not in MODELS:
        raise unknown("model", name, MODELS)
    entry = MODELS[name]
    torch.manual_seed(0)  # an untrained network is the same one every time
    module = entry.factory()
    if path := weights or entry.weights:
        assign(module, load_state_dict(path, max_bytes), path)
    source = _described(f"bundled {name}", weights)
    if not path:
        source += ", untrained"
    graph = _export(module, shapes or {"x": entry.input_shape}, batch)
    data = entry.data if entry.data == "digits" else None
    return LoadedModel(name, source, graph, entry.normalization, data)


def _described(source: str, weights: Path | None) -> str:
    return source if weights is None else f"{source}, weights {weights}"


def _export(module: nn.Module, shapes: Shapes, batch: int) -> gs.Graph:
    sizes = [(batch, *shape[1:]) if shape[0] == 1 else shape for shape in shapes.values()]
    return graph_from_module(module, tuple(torch.zeros(size) for size in sizes))
