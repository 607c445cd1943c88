"""How many samples a forward pass may take: small networks can afford more than large ones."""

import math

import onnx_graphsurgeon as gs

from hwprune.network.run import Data, Inputs, inputs_of


def affordable(graph: gs.Graph, x: Data, values: float, least: int, most: int) -> Inputs:
    """The first samples of `x`, so many that about `values` activations are computed for them.

    Args:
        graph: Canonical graph, of batch 1.
        x: Samples first.
        values: Activation values, of all tensors and samples together.
        least: Samples used in any case, if there are as many.
        most: Samples that are always enough.

    Returns:
        One tensor per input.
    """
    each = sum(math.prod(tensor.shape) for node in graph.nodes for tensor in node.outputs)
    count = int(min(max(values / max(1, each), least), most))
    return inputs_of(x, count)
