"""An artefact folder back as a torch module."""

from pathlib import Path

from torch import fx

from hwprune.errors import StoreError
from hwprune.export.write import NETWORK, finish
from hwprune.graph.read import read_graph
from hwprune.network.twin import to_module


def load(out_dir: Path | str) -> fx.GraphModule:
    """The slim fp32 network of an artefact, as a trainable torch module in evaluation mode.

    Raises:
        StoreError: `out_dir` holds no artefact.
        ModelError: Its network has been damaged.
    """
    folder = Path(out_dir)
    if folder.is_dir():
        finish(folder)
    path = folder / NETWORK
    if not path.is_file():
        raise StoreError(f"{folder} holds no artefact: {NETWORK} is missing")
    return to_module(read_graph(path))
