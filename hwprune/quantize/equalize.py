"""Cross-layer equalisation: channels between two layers made equally wide, the function unchanged.

Nagel et al. 2019 (Data-Free Quantization, section 4.1): f(s x) = s f(x) for a ReLU and s > 0, so a
channel can be made narrower in one layer by as much as wider in the next.
"""

from collections.abc import Iterator

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from hwprune.graph.read import clone

_BETWEEN = frozenset({"Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool"})
_SWEEPS = 20  # chains of layers pass their scales on, from pair to pair

Weights = NDArray[np.float32]


def equalized(graph: gs.Graph) -> gs.Graph | None:
    """A copy whose pairs of convolutions share out their channels' ranges; None without pairs.

    Eq. 11: s = sqrt(r1 r2) / r2 with r the largest magnitude of what leaves a channel in the first
    layer and of what reads it in the second; the first is divided by s, the second multiplied.
    """
    found = clone(graph)
    pairs = list(_pairs(found))
    for _ in range(_SWEEPS):
        for first, second in pairs:
            _share(first, second)
    return found if pairs else None


def _pairs(graph: gs.Graph) -> Iterator[tuple[gs.Node, gs.Node]]:
    """Convolutions that read nothing but one another's output, through what keeps its scale."""
    outputs = {id(tensor) for tensor in graph.outputs}
    for first in filter(_is_plain, graph.nodes):
        tensor = first.outputs[0]
        while len(tensor.outputs) == 1 and id(tensor) not in outputs:
            reader = tensor.outputs[0]
            if reader.op not in _BETWEEN:
                if _is_plain(reader) and reader.inputs[0] is tensor:
                    yield first, reader
                break
            tensor = reader.outputs[0]


def _is_plain(node: gs.Node) -> bool:
    """A convolution whose weight and bias are its own."""
    constants = [t for t in node.inputs[1:] if t.name]
    own = all(isinstance(t, gs.Constant) and len(t.outputs) == 1 for t in constants)
    return node.op == "Conv" and bool(own) and isinstance(node.inputs[0], gs.Variable)


def _share(first: gs.Node, second: gs.Node) -> None:
    weight, reader = first.inputs[1].values, _by_input(second)
    ours = np.abs(weight).reshape(len(weight), -1).max(1)
    theirs = np.abs(reader).reshape(*reader.shape[:3], -1).max((1, 3)).reshape(-1)
    scale = np.ones_like(ours)
    both = (ours > 0) & (theirs > 0)
    scale[both] = np.sqrt(ours[both] / theirs[both])
    first.inputs[1].values = weight / scale.reshape(-1, *[1] * (weight.ndim - 1))
    if len(first.inputs) > 2 and first.inputs[2].name:
        first.inputs[2].values = first.inputs[2].values / scale
    shape = (reader.shape[0], 1, reader.shape[2], *[1] * (reader.ndim - 3))
    second.inputs[1].values = (reader * scale.reshape(shape)).reshape(second.inputs[1].shape)


def _by_input(node: gs.Node) -> Weights:
    """The weight as groups x outputs per group x inputs per group x kernel."""
    weight: Weights = node.inputs[1].values
    groups = int(node.attrs.get("group", 1))
    return weight.reshape(groups, -1, *weight.shape[1:])
