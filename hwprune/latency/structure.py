"""The steps and links of a graph: what the runtime may run as one kernel, and the tensors between.

A `Step` is a node with the activation that may be folded into it, and the Add that a convolution
may compute on the way. What is really folded depends on precision, layout and target (`kernels`).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from hwprune.backend import Capabilities
from hwprune.graph.matrix import bias_behind, is_plain

# heads that may take an activation
_ABSORBING = {"Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "BatchNormalization"}
_ACTIVATIONS = {"Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid"}


@dataclass(frozen=True, slots=True)
class Step:
    """A node and the activation behind it; `residual` names the Add it is fused with in fp32:
    of a residual behind a convolution, of a bias behind a MatMul.
    """

    node: str
    op: str
    inputs: tuple[str, ...]
    output: str
    attributes: tuple[tuple[str, str], ...]
    precisions: tuple[str, ...]
    activation: tuple[str, tuple[tuple[str, str], ...]] | None = None
    residual: str | None = None


@dataclass(frozen=True, slots=True)
class Link:
    """A tensor between steps; `producer` is None for a graph input, `leaves` for graph outputs."""

    tensor: str
    producer: str | None
    consumers: tuple[str, ...]
    leaves: bool


def steps_of(graph: gs.Graph, capabilities: Capabilities) -> tuple[Step, ...]:
    """Every node that is not folded into another one, in graph order."""
    absorbed: set[str] = set()
    steps = []
    for node in graph.nodes:
        if node.name in absorbed:
            continue
        activation = _activation_behind(node, graph)
        if activation is not None:
            absorbed.add(activation.name)
        steps.append(_step(node, activation, capabilities))
    return _fuse_adds(steps, graph, capabilities)


def _step(node: gs.Node, activation: gs.Node | None, capabilities: Capabilities) -> Step:
    last = activation or node
    attributes = _json_attributes(node.attrs)
    behind = None
    if activation is not None:
        bounds = {f"const:{i}": listed(v) for i, v in _constants_of(activation).items()}
        behind = (
            activation.op,
            tuple(sorted({**dict(_json_attributes(activation.attrs)), **bounds}.items())),
        )
    others = sorted(_extra_precisions(node, capabilities), key=lambda p: (p != "int8", p))
    precisions = ("fp32", *others)
    inputs = tuple(t.name for t in node.inputs if t.name and _is_operand(node, t))
    return Step(node.name, node.op, inputs, last.outputs[0].name, attributes, precisions, behind)


def _extra_precisions(node: gs.Node, capabilities: Capabilities) -> frozenset[str]:
    found = capabilities.precisions.get(node.op, frozenset())
    if node.op in ("Gemm", "MatMul"):
        return found if is_plain(node) else frozenset()
    if node.op in ("Conv", "ConvTranspose"):
        return found if isinstance(node.inputs[1], gs.Constant) else frozenset()
    if node.op in ("Add", "Mul"):
        shapes = {tuple(t.shape) for t in node.inputs}
        two = len(shapes) == 1 and not any(isinstance(t, gs.Constant) for t in node.inputs)
        return found if two else frozenset()
    return found


def _is_operand(node: gs.Node, tensor: gs.Tensor) -> bool:
    """Weights and activations, but not the constants that only steer (shapes, axes, bounds)."""
    return not (isinstance(tensor, gs.Constant) and _steers(node, tensor))


def _steers(node: gs.Node, tensor: gs.Constant) -> bool:
    return tensor.values.dtype.kind in "iub" or (
        node.op in ("Clip", "Pad") and tensor.values.size < 2
    )


def _constants_of(node: gs.Node) -> dict[int, Any]:
    return {
        i: t.values.tolist()
        for i, t in enumerate(node.inputs)
        if isinstance(t, gs.Constant) and t.values.size <= 16 and _steers(node, t)
    }


def steering_inputs(graph: gs.Graph) -> dict[str, dict[int, Any]]:
    """Values of the constants that only steer (shapes, axes, bounds): node -> input -> value."""
    return {n.name: found for n in graph.nodes if (found := _constants_of(n))}


def listed(value: Any) -> str:
    """As attributes of kernels are written."""
    return json.dumps(value, separators=(",", ":"))


def _json_attributes(attributes: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    def plain(value: Any) -> Any:
        return value.tolist() if isinstance(value, np.ndarray) else value

    scalars = (str, int, float, list, tuple, np.ndarray)
    return tuple(
        sorted((k, listed(plain(v))) for k, v in attributes.items() if isinstance(v, scalars))
    )


def _activation_behind(node: gs.Node, graph: gs.Graph) -> gs.Node | None:
    if node.op not in _ABSORBING or len(node.outputs[0].outputs) != 1:
        return None
    if any(o is node.outputs[0] for o in graph.outputs):
        return None
    follower = node.outputs[0].outputs[0]
    return follower if follower.op in _ACTIVATIONS else None


def _fuse_adds(steps: list[Step], graph: gs.Graph, capabilities: Capabilities) -> tuple[Step, ...]:
    """Marks the step that computes each Add on the way."""
    readers: dict[str, int] = {}
    for step in steps:
        for tensor in step.inputs:
            readers[tensor] = readers.get(tensor, 0) + 1
    partner: dict[str, str] = {}
    if capabilities.residual_fused:
        partner |= _residuals(steps, readers)
    if capabilities.bias_fused:
        behind = {node.name: bias_behind(node, graph) for node in graph.nodes}
        partner |= {name: add.name for name, add in behind.items() if add is not None}
    return tuple(replace(s, residual=partner.get(s.node)) for s in steps)


def _residuals(steps: list[Step], readers: Mapping[str, int]) -> dict[str, str]:
    """Convolution -> Add: of those that feed it alone, the last one."""
    found: dict[str, str] = {}
    convs = {s.output: s for s in steps if s.op == "Conv" and s.activation is None}
    for add in (s for s in steps if s.op == "Add"):
        feeding = [convs[t] for t in add.inputs if t in convs and readers[t] == 1]
        if len(add.inputs) == 2 and feeding:
            last = max(feeding, key=steps.index)
            found[last.node] = add.node
    return found


def links_of(graph: gs.Graph, steps: tuple[Step, ...]) -> tuple[Link, ...]:
    """Every tensor that is computed or given, with who reads it."""
    producer = {s.output: s.node for s in steps}
    constants = {t.name for n in graph.nodes for t in n.inputs if isinstance(t, gs.Constant)}
    readers: dict[str, list[str]] = {}
    for step in steps:
        for tensor in step.inputs:
            if tensor not in constants and step.node not in readers.setdefault(tensor, []):
                readers[tensor].append(step.node)
    leaving = dict.fromkeys(o.name for o in graph.outputs)
    names = dict.fromkeys([*readers, *leaving])
    return tuple(Link(t, producer.get(t), tuple(readers.get(t, ())), t in leaving) for t in names)
