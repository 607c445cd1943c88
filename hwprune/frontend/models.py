"""A model as people name it: a file, a factory, a bundled name, or nothing at all."""

from pathlib import Path

from hwprune.errors import UsageError
from hwprune.frontend.factory import is_factory
from hwprune.frontend.loaded import LoadedModel, Shapes
from hwprune.graph.quarantine import read_untrusted
from hwprune.graph.safety import MAX_BYTES

DEFAULT = "digits"


def load_model(
    model: str | None,
    weights: Path | None,
    shapes: Shapes | None = None,
    batch: int = 1,
    max_bytes: int = MAX_BYTES,
) -> LoadedModel:
    """Loads a `.onnx` file, calls `package.module:factory`, or builds a bundled network.

    Args:
        model: None is the bundled digits network.
        weights: state dict for a factory or a bundled network.
        shapes: input shapes by name, batch included, where the model leaves them open.
        batch: leading dimension where the shapes leave it open, or at 1.
        max_bytes: larger files are not read.

    Raises:
        UsageError, ModelError, DataError.
    """
    name = model or DEFAULT
    if name.endswith(".onnx"):
        if weights is not None:
            raise UsageError(f"{name} carries its own weights", "leave --weights out")
        path = Path(name)
        return LoadedModel(path.stem, name, read_untrusted(path, shapes, batch, max_bytes))
    from hwprune.frontend import torch_models  # no file needs torch

    if is_factory(name):
        return torch_models.from_factory(name, weights, shapes, batch, max_bytes)
    if Path(name).is_file():
        raise UsageError(
            f"model {name!r} is not an .onnx file",
            "for weights, name the network as package.module:factory and add --weights FILE",
        )
    return torch_models.bundled(name, weights, shapes, batch, max_bytes)
