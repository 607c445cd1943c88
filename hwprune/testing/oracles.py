"""Independent ways to compute what slimming must give."""

from collections.abc import Sequence
from itertools import count

import numpy as np
import onnx_graphsurgeon as gs
import onnxruntime
import torch
from numpy.typing import NDArray

from hwprune.graph.channels import Coupling, Keep
from hwprune.graph.cost import input_axis, weight_input
from hwprune.graph.read import clone, to_proto
from hwprune.graph.recurrent import GATES, RECURRENCE, WEIGHT
from hwprune.graph.slim import slim
from hwprune.network.twin import to_module

Array = NDArray[np.float32]
_NUMBERS = count()


def run_graph(graph: gs.Graph, seed: int = 0) -> list[Array]:
    """All outputs in onnxruntime, without its optimisations, on random inputs."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        to_proto(graph).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, random_inputs(graph, seed)))


def random_inputs(graph: gs.Graph, seed: int = 0) -> dict[str, NDArray[np.generic]]:
    """Normal values for float inputs, zeros and ones for all others (indices, masks)."""
    rng = np.random.default_rng(seed)
    return {
        t.name: rng.standard_normal(t.shape).astype(t.dtype)
        if np.issubdtype(t.dtype, np.floating)
        else rng.integers(0, 2, t.shape).astype(t.dtype)
        for t in graph.inputs
    }


def random_keep(coupling: Coupling, seed: int) -> dict[str, NDArray[np.int64]]:
    """Random channels, at least one, of every group that can be pruned."""
    rng = np.random.default_rng(seed)
    return {
        group.name: np.sort(rng.permutation(group.width)[: rng.integers(1, group.width + 1)])
        for group in coupling.prunable
    }


def masked(graph: gs.Graph, coupling: Coupling, keep: Keep) -> gs.Graph:
    """The network at full size whose layers do not read the channels that are not in `keep`.

    Only the readers' weights are zeroed. A channel that something else still reads (because the
    analysis overlooked it) therefore shows up as a difference to the slim network. Channels that
    a product of two activations sums over (queries with keys) are zeroed where they are made, too.
    What a normalisation or a reduction says about channels, it says about those that are left.
    """
    result = clone(graph)
    nodes, tensors = {node.name: node for node in result.nodes}, result.tensors()
    summed = _summed(graph, coupling)
    for index, group in enumerate(coupling.groups):
        removed = np.setdiff1d(np.arange(group.width), keep.get(group.name, range(group.width)))
        reads = {place for name in group.consumers for place in _reading(nodes[name])}
        for member in group.members:
            if index in summed or (member.tensor, member.axis) in reads:
                positions = member.positions[removed].ravel()
                before = [slice(None)] * member.axis
                tensors[member.tensor].values[(*before, positions)] = 0
    for node in list(result.nodes):
        for axis in _statistic_axes(nodes[node.name]):
            kept = coupling.kept(node.inputs[0].name, axis, keep)
            if kept is not None:
                _restrict(result, node, axis, kept)
    return result


def disagreement(graph: gs.Graph, coupling: Coupling, keep: Keep) -> float:
    """Largest difference of the masked and the slim network, relative to the largest output."""
    return _difference(
        run_graph(masked(graph, coupling, keep)), run_graph(slim(graph, coupling, keep))
    )


def parity(graph: gs.Graph) -> float:
    """Largest difference of the torch twin and onnxruntime, relative to the largest output."""
    inputs = [torch.from_numpy(value) for value in random_inputs(graph).values()]
    with torch.no_grad():
        found = to_module(graph)(*inputs)
    outputs = [found] if isinstance(found, torch.Tensor) else list(found)
    return _difference(run_graph(graph), [output.numpy() for output in outputs])


def _difference(expected: Sequence[Array], found: Sequence[Array]) -> float:
    pairs = zip(expected, found, strict=True)
    return max(float(np.abs(a - b).max() / max(1e-6, np.abs(a).max())) for a, b in pairs)


def _statistic_axes(node: gs.Node) -> list[int]:
    """Axes that the node computes a mean, a norm or a sum over."""
    rank = len(node.inputs[0].shape) if node.inputs else 0
    if node.op in ("LayerNormalization", "RMSNormalization"):
        return list(range(node.attrs.get("axis", -1) % rank, rank))
    if node.op == "InstanceNormalization":
        return list(range(2, rank))
    if not node.op.startswith("Reduce"):
        return []
    given = node.inputs[1].values if len(node.inputs) > 1 else node.attrs.get("axes")
    return list(range(rank)) if given is None else [int(axis) % rank for axis in np.ravel(given)]


def _restrict(graph: gs.Graph, node: gs.Node, axis: int, kept: NDArray[np.int64]) -> None:
    """The node sees the `kept` positions of its input only; its output is zero at the others."""
    first = node.attrs.get("axis", -1) % len(node.inputs[0].shape)
    size, along = int(node.inputs[0].shape[axis]), [axis] + [axis - first] * (len(node.inputs) - 1)
    if node.op in ("LayerNormalization", "RMSNormalization"):
        narrow = [t.shape[a] == size for t, a in zip(node.inputs, along, strict=True)]
    else:
        narrow = [True] + [False] * (len(node.inputs) - 1)
    places = zip(list(node.inputs), along, narrow, strict=True)
    node.inputs = [_take(graph, t, kept, a) if cut else t for t, a, cut in places]
    if not node.op.startswith("Reduce"):
        whole, part = node.outputs[0], _variable(node.outputs[0])
        node.outputs = [part, *node.outputs[1:]]
        zero, joined = _variable(part), _variable(part)
        graph.nodes.append(gs.Node("Sub", zero.name, {}, [part, part], [zero]))
        graph.nodes.append(gs.Node("Concat", joined.name, {"axis": axis}, [part, zero], [joined]))
        back = np.full(size, len(kept), np.int64)
        back[kept] = np.arange(len(kept))
        _take(graph, joined, back, axis, whole)
    graph.toposort()


def _take(
    graph: gs.Graph,
    tensor: gs.Tensor,
    where: NDArray[np.int64],
    axis: int,
    taken: gs.Tensor | None = None,
) -> gs.Tensor:
    taken = taken or _variable(tensor)
    index = gs.Constant(f"{taken.name}.index.{len(graph.nodes)}", where)
    name = f"take.{len(graph.nodes)}"
    graph.nodes.append(gs.Node("Gather", name, {"axis": axis}, [tensor, index], [taken]))
    return taken


def _variable(like: gs.Tensor) -> gs.Variable:
    return gs.Variable(f"{like.name}.{next(_NUMBERS)}", like.dtype)


def _summed(graph: gs.Graph, coupling: Coupling) -> set[int]:
    """The groups, by index, whose channels a product of two activations sums over."""
    products = [n for n in graph.nodes if n.op == "MatMul" and weight_input(n) is None]
    left = [(n.inputs[0].name, len(n.inputs[0].shape) - 1) for n in products]
    found = [layout for place in left if (layout := coupling.layout(*place)) is not None]
    return {group for layout in found for group in np.unique(layout.group).tolist()} - {-1}


def _reading(node: gs.Node) -> list[tuple[str, int]]:
    if node.op in GATES:
        return [(node.inputs[WEIGHT].name, 2), (node.inputs[RECURRENCE].name, 2)]
    return [(node.inputs[weight_input(node) or 0].name, input_axis(node))]
