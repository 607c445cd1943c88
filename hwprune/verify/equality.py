"""Whether two graphs compute the same function, judged by what onnxruntime answers."""

import math
from typing import Any

import onnx_graphsurgeon as gs
import torch
from numpy.typing import NDArray
from torch import Tensor

from hwprune.graph.read import to_proto
from hwprune.verify.outputs import file_outputs

ROUNDING = 1e-5  # of an output's largest magnitude; a wrong channel or pixel is off by far more


def difference(before: gs.Graph, after: gs.Graph, x: tuple[NDArray[Any], ...]) -> float:
    """The largest difference of the two graphs' outputs, in units of each output's magnitude.

    Args:
        before: fp32 graph.
        after: Another graph of the same inputs and outputs.
        x: `N x ...`, one array for each input.

    Returns:
        0 where the outputs are equal bit for bit, at most `ROUNDING` where they differ by the
        order of sums; infinity where shapes differ or where either is NaN or infinite.
    """
    expected, found = (
        file_outputs(bytes(to_proto(graph).SerializeToString()), x) for graph in (before, after)
    )
    if len(expected) != len(found):
        return math.inf
    return max(_apart(a, b) for a, b in zip(expected, found, strict=True))


def _apart(expected: Tensor, found: Tensor) -> float:
    if expected.shape != found.shape:
        return math.inf
    if torch.equal(expected, found):
        return 0.0
    off = (expected.double() - found.double()).abs().max()
    relative = float(off / expected.double().abs().max())
    return relative if math.isfinite(relative) else math.inf
