"""How many samples a forward pass may take: small networks can afford more than large ones."""

import math

import onnx_graphsurgeon as gs
import torch
from torch import Tensor


def affordable(graph: gs.Graph, x: Tensor, values: float, least: int, most: int) -> Tensor:
    """The first samples of `x`, so many that about `values` activations are computed for them.

    Args:
        graph: Canonical graph, of batch 1.
        x: `N x ...`.
        values: Activation values, of all tensors and samples together.
        least: Samples used in any case, if there are as many.
        most: Samples that are always enough.

    Returns:
        `n x ...`, channels innermost if it is an image: what convolutions are fastest with.
    """
    each = sum(math.prod(tensor.shape) for node in graph.nodes for tensor in node.outputs)
    count = int(min(max(values / max(1, each), least), most))
    chosen = x[:count]
    return chosen.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else chosen
