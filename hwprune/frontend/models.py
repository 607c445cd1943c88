"""A model as people name it: a file, a factory, a bundled name, or nothing at all."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx_graphsurgeon as gs
import torch
from torch import nn

from hwprune.errors import UsageError
from hwprune.frontend.dataset import Normalization
from hwprune.frontend.factory import call_factory, is_factory
from hwprune.frontend.module import graph_from_module
from hwprune.frontend.weights import assign, load_state_dict
from hwprune.graph.quarantine import read_untrusted
from hwprune.registry import unknown

Shapes = Mapping[str, tuple[int, ...]]
DEFAULT = "digits"


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model as the compiler takes it.

    Attributes:
        name: short, for folders and tables.
        source: where it came from, for people.
        graph: canonical.
        normalization: of the images it was trained on, where that is known.
        data: bundled data set that goes with it, to be used when no other is named.
    """

    name: str
    source: str
    graph: gs.Graph
    normalization: Normalization | None = None
    data: str | None = None


def load_model(
    model: str | None, weights: Path | None, shapes: Shapes | None = None, batch: int = 1
) -> LoadedModel:
    """Loads a `.onnx` file, calls `package.module:factory`, or builds a bundled network.

    Args:
        model: None is the bundled digits network.
        weights: state dict for a factory or a bundled network.
        shapes: input shapes by name, batch included, where the model leaves them open.
        batch: leading dimension where the shapes leave it open, or at 1.

    Raises:
        UsageError, ModelError, DataError.
    """
    name = model or DEFAULT
    if name.endswith(".onnx"):
        return _from_file(Path(name), weights, shapes, batch)
    if is_factory(name):
        return _from_factory(name, weights, shapes, batch)
    if Path(name).is_file():
        raise UsageError(
            f"model {name!r} is not an .onnx file",
            "for weights, name the network as package.module:factory and add --weights FILE",
        )
    return _bundled(name, weights, shapes, batch)


def _from_file(path: Path, weights: Path | None, shapes: Shapes | None, batch: int) -> LoadedModel:
    if weights is not None:
        raise UsageError(f"{path} carries its own weights", "leave --weights out")
    return LoadedModel(path.stem, str(path), read_untrusted(path, shapes, batch))


def _from_factory(
    spec: str, weights: Path | None, shapes: Shapes | None, batch: int
) -> LoadedModel:
    module = call_factory(spec)
    if not isinstance(module, nn.Module):
        raise UsageError(f"{spec!r} returned a {type(module).__name__}, not an nn.Module")
    if not shapes:
        raise UsageError(
            f"{spec!r}: what shape is its input?", "say it, batch first: --shape x=1,3,32,32"
        )
    if weights is not None:
        assign(module, load_state_dict(weights), weights)
    name = spec.partition(":")[2]
    return LoadedModel(name, _described(spec, weights), _export(module, shapes, batch))


def _bundled(name: str, weights: Path | None, shapes: Shapes | None, batch: int) -> LoadedModel:
    from hwprune.models import MODELS

    if name not in MODELS:
        raise unknown("model", name, MODELS)
    entry = MODELS[name]
    torch.manual_seed(0)  # an untrained network is the same one every time
    module = entry.factory()
    if path := weights or entry.weights:
        assign(module, load_state_dict(path), path)
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
