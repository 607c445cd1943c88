"""How channels flow through operators that pool, sample, reduce or normalise along axes."""

import onnx_graphsurgeon as gs

from hwprune.graph.flow import Flow, constant, label, rule


@rule("MaxPool AveragePool LpPool GlobalAveragePool GlobalMaxPool GlobalLpPool")
def pool(flow: Flow, node: gs.Node) -> None:
    """Every channel by itself."""
    lines = flow.keep(node, flow.of(node.inputs[0]), lambda a: a < 2, "pools over the channels")
    for result in node.outputs:  # where a MaxPool found its maxima, too
        if not result.is_empty():
            flow.put(result, lines)


@rule("GridSample RoiAlign MaxRoiPool")
def sample(flow: Flow, node: gs.Node) -> None:
    """Every channel by itself, at places that another input says."""
    data, *places = node.inputs
    for tensor in places:
        flow.freeze(tensor, f"{label(node)} reads places from it")
    lines = flow.keep(node, flow.of(data), lambda a: a == 1, "samples along the channels")
    flow.put(node.outputs[0], lines)


@rule(
    "ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceLogSum "
    "ReduceLogSumExp ReduceSumSquare ArgMax ArgMin"
)
def reduce(flow: Flow, node: gs.Node) -> None:
    """What runs over channels runs over those that are left (decision 0009).

    An index of a channel would mean another one then.
    """
    rank = len(node.inputs[0].shape)
    if node.op.startswith("Arg"):
        given: list[int] | None = [node.attrs.get("axis", 0)]
    else:
        given = constant(node.inputs[1]) if len(node.inputs) > 1 else node.attrs.get("axes")
    axes = {axis % rank for axis in given or range(rank)}
    lines = flow.of(node.inputs[0])
    if node.op.startswith("Arg"):
        lines = flow.keep(node, lines, lambda a: a not in axes, "counts the channels")
    lines = {a: ids for a, ids in lines.items() if a not in axes}
    kept = bool(node.attrs.get("keepdims", 1))
    moved = {a if kept else a - sum(r < a for r in axes): ids for a, ids in lines.items()}
    flow.put(node.outputs[0], moved)


@rule("Softmax LogSoftmax Hardmax LpNormalization CumSum")
def along_one_axis(flow: Flow, node: gs.Node) -> None:
    """Passes unless it normalises or sums over the channels."""
    data = node.inputs[0]
    given = constant(node.inputs[1]) if node.op == "CumSum" else [node.attrs.get("axis", -1)]
    own = (given or [-1])[0] % len(data.shape)
    lines = flow.keep(node, flow.of(data), lambda a: a != own, "normalises over the channels")
    flow.put(node.outputs[0], lines)
