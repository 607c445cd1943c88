"""Means over an image as global pools, which stay in the fast layout and have integer kernels."""

import onnx_graphsurgeon as gs

from hwprune.rewrites.edit import on_a_copy


@on_a_copy
def pool_means(graph: gs.Graph) -> None:
    """Writes ReduceMean over the two spatial axes as GlobalAveragePool.

    Precondition: an input of four axes, known axes to reduce. A Flatten is added where they were
    not kept.
    """
    for node in [node for node in graph.nodes if _is_spatial_mean(node)]:
        source, out = node.inputs[0], node.outputs[0]
        kept = bool(node.attrs.get("keepdims", 1))
        node.op, node.attrs, node.inputs = "GlobalAveragePool", {}, [source]
        if not kept:
            pooled = gs.Variable(f"{out.name}/pooled", out.dtype, (*source.shape[:2], 1, 1))
            node.outputs = [pooled]
            flatten = gs.Node("Flatten", f"{node.name}/flatten", {"axis": 1}, [pooled], [out])
            graph.nodes.append(flatten)


def _is_spatial_mean(node: gs.Node) -> bool:
    if node.op != "ReduceMean" or len(node.inputs[0].shape) != 4:
        return False
    axes = node.attrs.get("axes", ())
    if len(node.inputs) > 1:
        constant = isinstance(node.inputs[1], gs.Constant)
        axes = node.inputs[1].values.tolist() if constant else ()
    return sorted(axis % 4 for axis in axes) == [2, 3]
