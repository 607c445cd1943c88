"""A model as people name it: a file, a factory, a bundled name, or nothing at all."""

from pathlib import Path

from hwprune.errors import UsageError
from hwprune.frontend.factory import is_factory
from hwprune.frontend.loaded import LoadedModel, Shapes
from hwprune.graph.quarantine import read_untrusted

DEFAULT = "digits"


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
    from hwprune.frontend import torch_models  # no file needs torch

    if is_factory(name):
        return torch_models.from_factory(name, weights, shapes, batch)
    if Path(name).is_file():
        raise UsageError(
            f"model {name!r} is not an .onnx file",
            "for weights, name the network as package.module:factory and add --weights FILE",
        )
    return torch_models.bundled(name, weights, shapes, batch)


def _from_file(path: Path, weights: Path | None, shapes: Shapes | None, batch: int) -> LoadedModel:
    if weights is not None:
        raise UsageError(f"{path} carries its own weights", "leave --weights out")
    return LoadedModel(path.stem, str(path), read_untrusted(path, shapes, batch))
