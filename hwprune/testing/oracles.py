"""Independent ways to compute what slimming must give."""

import numpy as np
import onnx_graphsurgeon as gs
import onnxruntime
from numpy.typing import NDArray

from hwprune.graph.channels import Coupling, Keep
from hwprune.graph.cost import input_axis, weight_input
from hwprune.graph.read import clone, to_proto
from hwprune.graph.slim import slim

Array = NDArray[np.float32]


def run_graph(graph: gs.Graph, seed: int = 0) -> list[Array]:
    """All outputs in onnxruntime, without its optimisations, on normal random inputs."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        to_proto(graph).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    rng = np.random.default_rng(seed)
    feeds = {t.name: rng.standard_normal(t.shape).astype(np.float32) for t in graph.inputs}
    return list(session.run(None, feeds))


def masked(graph: gs.Graph, coupling: Coupling, keep: Keep) -> gs.Graph:
    """The network at full size whose layers do not read the channels that are not in `keep`.

    Only the readers' weights are zeroed. A channel that something else still reads (because the
    analysis overlooked it) therefore shows up as a difference to the slim network. Channels that
    a product of two activations sums over (queries with keys) are zeroed where they are made, too.
    """
    result = clone(graph)
    nodes, tensors = {node.name: node for node in result.nodes}, result.tensors()
    summed = _summed(graph, coupling)
    for index, group in enumerate(coupling.groups):
        removed = np.setdiff1d(np.arange(group.width), keep.get(group.name, range(group.width)))
        reads = {_reading(nodes[name]) for name in group.consumers}
        for member in group.members:
            if index in summed or (member.tensor, member.axis) in reads:
                positions = member.positions[removed].ravel()
                before = [slice(None)] * member.axis
                tensors[member.tensor].values[(*before, positions)] = 0
    return result


def disagreement(graph: gs.Graph, coupling: Coupling, keep: Keep) -> float:
    """Largest difference of the masked and the slim network, relative to the largest output."""
    pairs = zip(
        run_graph(masked(graph, coupling, keep)),
        run_graph(slim(graph, coupling, keep)),
        strict=True,
    )
    return max(float(np.abs(a - b).max() / max(1.0, np.abs(a).max())) for a, b in pairs)


def _summed(graph: gs.Graph, coupling: Coupling) -> set[int]:
    """The groups, by index, whose channels a product of two activations sums over."""
    products = [n for n in graph.nodes if n.op == "MatMul" and weight_input(n) is None]
    left = [(n.inputs[0].name, len(n.inputs[0].shape) - 1) for n in products]
    found = [layout for place in left if (layout := coupling.layout(*place)) is not None]
    return {group for layout in found for group in np.unique(layout.group).tolist()} - {-1}


def _reading(node: gs.Node) -> tuple[str, int]:
    return node.inputs[weight_input(node) or 0].name, input_axis(node)
