"""A model as the compiler takes it."""

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from hwprune.frontend.normalization import Normalization

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A network in canonical form, and what is known about it.

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
