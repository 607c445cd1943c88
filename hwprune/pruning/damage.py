"""Which layers of a slim graph no longer see what they were trained on."""

from collections.abc import Mapping

import numpy as np
import onnx_graphsurgeon as gs

from hwprune.graph.cost import weighted_nodes

# Operators whose every output depends on all channels of the input; the others treat each alone.
_MIXING = {"LayerNormalization", "Softmax", "LogSoftmax", "MatMul", "Gemm", "Conv", "ConvTranspose"}


def damaged(original: Mapping[str, gs.Node], slimmed: gs.Graph) -> set[str]:
    """Names of the weighted nodes whose inputs lost channels or changed their values.

    A layer that only lost outputs still computes the others exactly and is left out, as is one
    that shares its weight.
    """
    weighted = {node.name for node in weighted_nodes(slimmed)}
    altered: set[str] = set()
    found: set[str] = set()
    for node in slimmed.nodes:
        before = original.get(node.name)
        if not (_reads(node) & altered or _is_rewired(before, node) or _lost(before, node)):
            continue
        altered |= {tensor.name for tensor in node.outputs}
        if node.name in weighted and not _shares_weight(node):
            found.add(node.name)
    return found


def changed(original: Mapping[str, gs.Node], slimmed: gs.Graph) -> set[str]:
    """Names of the nodes that do not compute what the node of this name in the original does.

    Nodes that only follow these count as unchanged.
    """
    found = {n.name for n in slimmed.nodes if not _is_same(original.get(n.name), n)}
    return found | damaged(original, slimmed)


def additions(node: gs.Node) -> list[gs.Node]:
    """The Add nodes that the node's output runs through while nobody else reads it."""
    found: list[gs.Node] = []
    tensor = node.outputs[0]
    while len(tensor.outputs) == 1 and tensor.outputs[0].op == "Add":
        found.append(tensor.outputs[0])
        tensor = tensor.outputs[0].outputs[0]
    return found


def give_biases(graph: gs.Graph, names: set[str]) -> None:
    """Adds a zero bias to those of the named Conv and Gemm nodes that have none, in place."""
    for node in graph.nodes:
        if node.name in names and node.op in ("Conv", "Gemm") and len(node.inputs) < 3:
            outputs = int(node.outputs[0].shape[1])
            dtype = node.inputs[1].values.dtype
            zeros = gs.Constant(
                f"{node.name}.bias", node.inputs[1].values.ravel()[:1].repeat(outputs) * 0
            )
            zeros.values = zeros.values.astype(dtype)
            node.inputs.append(zeros)


def _reads(node: gs.Node) -> set[str]:
    return {tensor.name for tensor in node.inputs}


def _is_rewired(before: gs.Node | None, node: gs.Node) -> bool:
    """Whether a removed branch made the node read another tensor."""
    if before is None:
        return False
    return [t.name for t in before.inputs][: len(node.inputs)] != [t.name for t in node.inputs]


def _lost(before: gs.Node | None, node: gs.Node) -> bool:
    """Whether the node sums over channels of which some are gone."""
    if before is None or not (node.op in _MIXING or node.op.startswith("Reduce")):
        return False
    if node.op == "Conv" and node.attrs.get("group", 1) == node.inputs[0].shape[1]:
        return False
    pairs = zip(before.inputs, node.inputs, strict=False)
    return any(list(a.shape) != list(b.shape) for a, b in pairs if not isinstance(b, gs.Constant))


def _shares_weight(node: gs.Node) -> bool:
    return any(isinstance(t, gs.Constant) and len(t.outputs) > 1 for t in node.inputs)


def _is_same(before: gs.Node | None, node: gs.Node) -> bool:
    if before is None or before.attrs != node.attrs or len(before.inputs) != len(node.inputs):
        return False
    if [t.name for t in before.outputs] != [t.name for t in node.outputs]:
        return False
    return all(_is_equal(a, b) for a, b in zip(before.inputs, node.inputs, strict=True))


def _is_equal(a: gs.Tensor, b: gs.Tensor) -> bool:
    if isinstance(a, gs.Constant) and isinstance(b, gs.Constant):
        return a.values is b.values or np.array_equal(a.values, b.values)
    return type(a) is type(b) and bool(a.name == b.name)
