"""Where quantisers stand: decided once, read by the fake-quantised twin and by the lowering."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from hwprune.backend import Capabilities
from hwprune.graph.matrix import is_plain

_WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_ELEMENTWISE = frozenset({"Add", "Mul"})
_FOLDS = _WEIGHTED | {"Add"}  # heads that take the activation behind them

_KEEPS_SIGN = frozenset(
    {"Add", "Mul", "Concat", "AveragePool", "GlobalAveragePool", "MaxPool", "Reshape", "Flatten"}
    | {"Transpose", "Squeeze", "Unsqueeze", "Slice", "Split", "Gather", "Clip", "ReduceMean"}
)


@dataclass(frozen=True, slots=True)
class Placement:
    """Which nodes compute on integers and which tensors are quantised for that.

    `made` are the tensors that int8 nodes produce: every reader sees the quantised value.
    `read` are the others that int8 nodes read: their fp32 readers see the unquantised value.
    """

    nodes: frozenset[str]
    folded: Mapping[str, str]  # int8 node -> the activation behind it that it absorbs
    made: Mapping[str, str]  # tensor -> tensor whose encoding it has (itself, or a passthrough's)
    read: tuple[str, ...]

    @property
    def encoded(self) -> tuple[str, ...]:
        """The tensors with an encoding of their own."""
        return (*self.read, *(t for t, root in self.made.items() if t == root))

    def root(self, tensor: str) -> str:
        """The tensor that holds the encoding of `tensor`."""
        return self.made.get(tensor, tensor)


def place(graph: gs.Graph, kernels: Mapping[str, str], capabilities: Capabilities) -> Placement:
    """Turns the choice per node into the choice per tensor.

    A node whose integer form the target has not (or not for these operands) stays fp32.
    """
    nodes = [n for n in graph.nodes if kernels.get(n.name) == "int8" and fits(n, capabilities)]
    names = frozenset(node.name for node in nodes)
    folded = {
        node.name: follower.name
        for node in nodes
        if (follower := _absorbed(node, graph, capabilities)) is not None
    }
    made = _made(nodes, folded, capabilities)
    read = [t.name for node in nodes for t in data_inputs(node) if t.name not in made]
    return Placement(names, folded, made, tuple(dict.fromkeys(read)))


def fits(node: gs.Node, capabilities: Capabilities) -> bool:
    """Whether the target computes this very node on integers."""
    if not node.inputs or node.inputs[0].dtype != np.float32:
        return False
    if node.op in capabilities.passthrough:
        return len(node.outputs) == 1 and isinstance(node.inputs[0], gs.Variable)
    if "int8" not in capabilities.precisions.get(node.op, frozenset()):
        return False
    if node.op in _WEIGHTED:
        return _plain_product(node)
    same_shape = len({tuple(t.shape) for t in node.inputs}) == 1
    if node.op in _ELEMENTWISE and not same_shape:
        return False
    return not any(isinstance(t, gs.Constant) for t in data_inputs(node))


def data_inputs(node: gs.Node) -> list[gs.Tensor]:
    """The inputs that carry activations: not weights, biases, shapes or bounds."""
    return list(node.inputs) if node.op in _ELEMENTWISE | {"Concat"} else list(node.inputs[:1])


def products(graph: gs.Graph, placement: Placement) -> list[gs.Node]:
    """The int8 nodes with a weight, in graph order."""
    return [n for n in graph.nodes if n.op in _WEIGHTED and n.name in placement.nodes]


def bounds(node: gs.Node) -> tuple[float, float]:
    """What a Relu or Clip lets through, as (lowest, highest)."""
    if node.op == "Relu":
        return 0.0, math.inf
    limits = [t.values.item() if isinstance(t, gs.Constant) else None for t in node.inputs[1:3]]
    low, high = [*limits, None, None][:2]
    return -math.inf if low is None else float(low), math.inf if high is None else float(high)


def nonnegative(graph: gs.Graph) -> frozenset[str]:
    """Tensors that cannot be below zero, because of the operators that made them."""
    found: set[str] = set()
    for node in graph.nodes:
        keeps = node.op in _KEEPS_SIGN and all(t.name in found for t in data_inputs(node))
        clips = node.op in ("Relu", "Clip") and bounds(node)[0] >= 0
        if keeps or clips or node.op in ("Sigmoid", "Softmax", "HardSigmoid"):
            found.update(t.name for t in node.outputs)
    return frozenset(found)


def _absorbed(node: gs.Node, graph: gs.Graph, capabilities: Capabilities) -> gs.Node | None:
    """The Relu or Clip behind `node`, if nobody else reads in between and it can be folded."""
    out = node.outputs[0]
    if node.op not in _FOLDS or len(out.outputs) != 1 or any(out is t for t in graph.outputs):
        return None
    follower = out.outputs[0]
    if follower.op not in capabilities.activations.get("int8", frozenset()) & {"Relu", "Clip"}:
        return None
    return None if any(isinstance(t, gs.Variable) for t in follower.inputs[1:]) else follower


def _made(
    nodes: list[gs.Node], folded: Mapping[str, str], capabilities: Capabilities
) -> dict[str, str]:
    made: dict[str, str] = {}
    for node in nodes:
        outputs = node.outputs if node.name not in folded else node.outputs[0].outputs[0].outputs
        source = node.inputs[0].name
        for out in outputs:
            passes = node.op in capabilities.passthrough
            made[out.name] = made.get(source, source) if passes else out.name
    return made


def _plain_product(node: gs.Node) -> bool:
    """One constant weight on the right, a constant bias, no scaling."""
    if not all(isinstance(t, gs.Constant) for t in node.inputs[1:] if t.name):
        return False
    if isinstance(node.inputs[0], gs.Constant):
        return False
    if node.op in ("Gemm", "MatMul"):
        return is_plain(node)
    if node.op == "ConvTranspose":
        return bool(node.attrs.get("group", 1) == 1)
    return True
