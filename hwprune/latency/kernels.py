"""Which kernels the runtime executes for a graph at given widths and precisions (design D4).

A `Step` is a node with the activation that may be folded into it. What is really folded depends on
the precision and on the target's stated capabilities: Conv + Add + Relu is one kernel in fp32 on
onnxruntime, while in int8 it is QLinearConv and QLinearAdd. Steps are linked by tensors; where
precision or layout changes on the way, a boundary kernel is paid once per tensor.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from hwprune.backend import Capabilities, Kernel
from hwprune.graph.channels import Coupling, Widths
from hwprune.graph.recurrent import GATES

_ABSORBING = {"Conv", "ConvTranspose", "Gemm", "MatMul", "Add"}  # heads that may take an activation
_ACTIVATIONS = {"Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid"}
_SHAPE_ONLY = {"Reshape", "Expand", "Squeeze", "Unsqueeze", "Flatten"}


@dataclass(frozen=True, slots=True)
class Step:
    """A node and the activation behind it; `residual` names the Add it is fused with in fp32."""

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


class KernelGraph:
    """The steps and links of one graph on one target."""

    def __init__(self, graph: gs.Graph, coupling: Coupling, capabilities: Capabilities) -> None:
        self.coupling = coupling
        self.capabilities = capabilities
        self.steps = _fuse_residuals(_steps(graph, capabilities), capabilities)
        self.by_node = {s.node: s for s in self.steps}
        self.links = _links(graph, self.steps)
        self.within = {s.node: _containing(coupling, s.node) for s in self.steps}
        self._kept_input = {b.add: b.kept_input for b in coupling.branches}
        self._constants = _constant_inputs(graph)
        self._fused_into = {s.residual: s.node for s in self.steps if s.residual}

    def step_kernels(
        self, step: Step, widths: Widths, dropped: frozenset[str], kernels: Mapping[str, str]
    ) -> list[Kernel]:
        """What runs for `step`, boundaries left out."""
        if self.within[step.node] & dropped:
            return []
        precision = kernels.get(step.node, "fp32")
        producer = self._fused_into.get(step.node)
        if producer and self._fuses(self.by_node[producer], dropped, kernels):
            return []  # it runs inside that convolution
        if self._fuses(step, dropped, kernels):
            return [self._conv_add(step, self.by_node[step.residual or ""], widths)]
        return self._emit(step, precision, widths)

    def link_kernels(
        self, link: Link, widths: Widths, dropped: frozenset[str], kernels: Mapping[str, str]
    ) -> list[Kernel]:
        """Changes of precision and layout that the tensor of `link` needs."""
        if link.producer and self._silent(link.producer, dropped):
            return []
        users = [c for c in link.consumers if self._reads(c, link.tensor, dropped)]
        source = kernels.get(link.producer, "fp32") if link.producer else "fp32"
        wanted = {kernels.get(c, "fp32") for c in users} | ({"fp32"} if link.leaves else set())
        shape = self.coupling.shape(link.tensor, widths)
        found = []
        if source == "fp32" and "int8" in wanted:
            found.append(Kernel("QuantizeLinear", "int8", (shape,), shape))
        if source == "int8" and "fp32" in wanted:
            found.append(Kernel("DequantizeLinear", "int8", (shape,), shape))
        return found + self._reorders(link, users, source, wanted, shape, kernels)

    def kernels(
        self, widths: Widths, dropped: frozenset[str], kernels: Mapping[str, str]
    ) -> list[Kernel]:
        """Everything one inference runs."""
        parts = [self.step_kernels(s, widths, dropped, kernels) for s in self.steps]
        parts += [self.link_kernels(e, widths, dropped, kernels) for e in self.links]
        return [kernel for part in parts for kernel in part]

    def _reads(self, node: str, tensor: str, dropped: frozenset[str]) -> bool:
        """Whether `node` still reads `tensor`; an Add without its branch passes one input on."""
        gone = self.within[node] & dropped
        if gone - {node}:
            return False
        return not gone or self.by_node[node].inputs[self._kept_input[node]] == tensor

    def _silent(self, node: str, dropped: frozenset[str]) -> bool:
        return bool((self.within[node] - {node}) & dropped)

    def _fuses(self, step: Step, dropped: frozenset[str], kernels: Mapping[str, str]) -> bool:
        if step.residual is None or self.within[step.residual] & dropped:
            return False
        precision = kernels.get(step.node, "fp32")
        same = kernels.get(step.residual, "fp32") == precision
        return same and precision in self.capabilities.residual_fused

    def _emit(self, step: Step, precision: str, widths: Widths) -> list[Kernel]:
        shapes = tuple(self.coupling.shape(t, widths) for t in step.inputs)
        output = self.coupling.shape(step.output, widths)
        attributes = self._attributes(step, shapes, output)
        if step.activation is None:
            return [Kernel(step.op, precision, shapes, output, attributes)]
        name, own = step.activation
        if self._absorbs(step.op, precision, name):
            attributes = tuple(sorted(attributes + tuple((f"{name}:{k}", v) for k, v in own)))
            return [Kernel(step.op, precision, shapes, output, attributes, (name,))]
        behind = Kernel(name, precision, (output,), output, own)
        return [Kernel(step.op, precision, shapes, output, attributes), behind]

    def _absorbs(self, op: str, precision: str, activation: str) -> bool:
        if op == "Add" and precision == "fp32":
            return False
        return activation in self.capabilities.activations.get(precision, frozenset())

    def _conv_add(self, conv: Step, add: Step, widths: Widths) -> Kernel:
        shapes = [self.coupling.shape(t, widths) for t in conv.inputs]
        output = self.coupling.shape(add.output, widths)
        fused = ("Add",) + ((add.activation[0],) if add.activation else ())
        attributes = self._attributes(conv, tuple(shapes), output)
        return Kernel(conv.op, "fp32", (*shapes, output), output, attributes, fused)

    def _attributes(
        self, step: Step, shapes: tuple[tuple[int, ...], ...], output: tuple[int, ...]
    ) -> tuple[tuple[str, str], ...]:
        found = dict(step.attributes)
        if step.op in ("Conv", "ConvTranspose") and found.get("group", "1") != "1":
            per_group = shapes[1][1] if step.op == "Conv" else shapes[1][0]
            found["group"] = str(shapes[0][1] // max(1, per_group))
        if step.op in GATES:
            found["hidden_size"] = str(output[-1])
        for index, value in self._constants.get(step.node, {}).items():
            if step.op == "Pad" and index == 1:
                value = _pads(value, shapes[0], output)
            if step.op not in _SHAPE_ONLY:
                found[f"const:{index}"] = json.dumps(value, separators=(",", ":"))
        return tuple(sorted(found.items()))

    def _reorders(
        self,
        link: Link,
        users: list[str],
        source: str,
        wanted: set[str],
        shape: tuple[int, ...],
        kernels: Mapping[str, str],
    ) -> list[Kernel]:
        """Layout changes around fp32 convolutions, where the runtime blocks channels."""
        blocked = self.capabilities.blocked
        if not blocked or len(shape) != 4:
            return []
        made = source == "fp32" and link.producer is not None and self._is_blocked(link.producer)
        reads = [
            c for c in users if kernels.get(c, "fp32") == "fp32" and self.by_node[c].op in blocked
        ]
        plain = link.leaves or "int8" in wanted or len(reads) < len(users)
        if made and plain:
            return [Kernel("ReorderOutput", "fp32", (shape,), shape)]
        convs = [c for c in reads if self.by_node[c].op == "Conv"]
        if not made and convs and self.coupling.shape(link.tensor, {})[1] >= 4:
            return [Kernel("ReorderInput", "fp32", (shape,), shape)]
        return []

    def _is_blocked(self, node: str) -> bool:
        return self.by_node[node].op in self.capabilities.blocked


def _steps(graph: gs.Graph, capabilities: Capabilities) -> list[Step]:
    absorbed: set[str] = set()
    steps = []
    for node in graph.nodes:
        if node.name in absorbed:
            continue
        activation = _activation_behind(node, graph)
        if activation is not None:
            absorbed.add(activation.name)
        steps.append(_step(node, activation, capabilities))
    return steps


def _step(node: gs.Node, activation: gs.Node | None, capabilities: Capabilities) -> Step:
    last = activation or node
    attributes = _json_attributes(node.attrs)
    behind = None
    if activation is not None:
        bounds = {f"const:{i}": _listed(v) for i, v in _constants_of(activation).items()}
        behind = (
            activation.op,
            tuple(sorted({**dict(_json_attributes(activation.attrs)), **bounds}.items())),
        )
    precisions = ("fp32", *sorted(_extra_precisions(node, capabilities)))
    inputs = tuple(t.name for t in node.inputs if t.name and _is_operand(node, t))
    return Step(node.name, node.op, inputs, last.outputs[0].name, attributes, precisions, behind)


def _extra_precisions(node: gs.Node, capabilities: Capabilities) -> frozenset[str]:
    found = capabilities.precisions.get(node.op, frozenset())
    if node.op in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
        weight = node.inputs[1]
        batched = node.op == "MatMul" and len(weight.shape) > 2
        return found if isinstance(weight, gs.Constant) and not batched else frozenset()
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


def _constant_inputs(graph: gs.Graph) -> dict[str, dict[int, Any]]:
    return {n.name: found for n in graph.nodes if (found := _constants_of(n))}


def _pads(value: list[int], before: tuple[int, ...], after: tuple[int, ...]) -> list[int]:
    """Pad amounts that lead from one shape to the other; which side hardly matters for time."""
    rank = len(before)
    ends = [a - b - value[i] for i, (a, b) in enumerate(zip(after, before, strict=True))]
    if all(e >= 0 for e in ends):
        return [*value[:rank], *ends]
    return [0] * rank + [a - b for a, b in zip(after, before, strict=True)]


def _listed(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _json_attributes(attributes: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    def plain(value: Any) -> Any:
        return value.tolist() if isinstance(value, np.ndarray) else value

    scalars = (str, int, float, list, tuple, np.ndarray)
    return tuple(
        sorted((k, _listed(plain(v))) for k, v in attributes.items() if isinstance(v, scalars))
    )


def _activation_behind(node: gs.Node, graph: gs.Graph) -> gs.Node | None:
    if node.op not in _ABSORBING or len(node.outputs[0].outputs) != 1:
        return None
    if any(o is node.outputs[0] for o in graph.outputs):
        return None
    follower = node.outputs[0].outputs[0]
    return follower if follower.op in _ACTIVATIONS else None


def _fuse_residuals(steps: list[Step], capabilities: Capabilities) -> tuple[Step, ...]:
    """Marks the convolution that computes each Add: of those that feed it alone, the last one."""
    if not capabilities.residual_fused:
        return tuple(steps)
    readers: dict[str, int] = {}
    for step in steps:
        for tensor in step.inputs:
            readers[tensor] = readers.get(tensor, 0) + 1
    partner: dict[str, str] = {}
    convs = {s.output: s for s in steps if s.op == "Conv" and s.activation is None}
    for add in (s for s in steps if s.op == "Add"):
        feeding = [convs[t] for t in add.inputs if t in convs and readers[t] == 1]
        if len(add.inputs) == 2 and feeding:
            last = max(feeding, key=steps.index)
            partner[last.node] = add.node
    return tuple(
        Step(
            s.node,
            s.op,
            s.inputs,
            s.output,
            s.attributes,
            s.precisions,
            s.activation,
            partner.get(s.node),
        )
        for s in steps
    )


def _links(graph: gs.Graph, steps: tuple[Step, ...]) -> tuple[Link, ...]:
    producer = {s.output: s.node for s in steps}
    constants = {t.name for n in graph.nodes for t in n.inputs if isinstance(t, gs.Constant)}
    readers: dict[str, list[str]] = {}
    for step in steps:
        for tensor in step.inputs:
            if tensor not in constants and step.node not in readers.setdefault(tensor, []):
                readers[tensor].append(step.node)
    leaving = {o.name for o in graph.outputs}
    names = dict.fromkeys([*readers, *leaving])
    return tuple(Link(t, producer.get(t), tuple(readers.get(t, ())), t in leaving) for t in names)


def _containing(coupling: Coupling, node: str) -> frozenset[str]:
    """The branches that take `node` with them; an Add goes with its own branch."""
    return frozenset(b.name for b in coupling.branches if node in b.nodes or node == b.add)
