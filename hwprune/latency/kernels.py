"""Which kernels the runtime executes for a graph at given widths and precisions (design D4).

What is fused depends on the precision, the layout and the target's stated capabilities: Conv + Add
+ Relu is one kernel in fp32 on onnxruntime, while in int8 it is QLinearConv and QLinearAdd. Where
precision or layout changes between two steps, boundary kernels are paid.
"""

from collections.abc import Mapping

import onnx_graphsurgeon as gs

from hwprune.backend import RUN, Capabilities, Kernel, Shape
from hwprune.graph.channels import Coupling, Widths
from hwprune.graph.recurrent import GATES
from hwprune.latency.layouts import POOLS, Configured, Form, Shapes, Structure
from hwprune.latency.structure import Link, Step, links_of, listed, steering_inputs, steps_of
from hwprune.plan import Configuration

_SHAPE_ONLY = {"Reshape", "Expand", "Squeeze", "Unsqueeze", "Flatten"}
_ORDERED = {"Concat", "MaxPool", "AveragePool", "GlobalAveragePool"}  # layout tells on their time
_TO_LAST, _TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
BLOCKED = ("layout", '"blocked"')  # the attribute of a convolution or pool on blocks of channels
BLOCKING = ("layout", '"blocking"')  # of one that reads few channels as they are and writes blocks
_FLOATS = (Form.PLAIN, Form.BLOCKED)


CALL = "call"  # the part that stands for calling the runtime


def step_part(step: Step) -> str:
    """The name of the part of a network's time that `step` is."""
    return f"step:{step.node}"


def link_part(link: Link) -> str:
    """The name of the part that the boundaries on a tensor are."""
    return f"link:{link.tensor}"


class KernelGraph:
    """The steps and links of one graph on one target."""

    def __init__(self, graph: gs.Graph, coupling: Coupling, capabilities: Capabilities) -> None:
        self.coupling = coupling
        self.capabilities = capabilities
        self.steps = steps_of(graph, capabilities)
        self.links = links_of(graph, self.steps)
        self.by_node = {s.node: s for s in self.steps}
        self.within = {s.node: _containing(coupling, s.node) for s in self.steps}
        self.structure = Structure(
            steps=self.steps,
            shapes=Shapes(coupling),
            capabilities=capabilities,
            by_node=self.by_node,
            producer={s.output: s.node for s in self.steps},
            link_of={link.tensor: link for link in self.links},
            within=self.within,
            kept_input={b.add: b.kept_input for b in coupling.branches},
            fused_into={s.residual: s.node for s in self.steps if s.residual},
        )
        self._steering = steering_inputs(graph)
        self._fixed = {s.node: self._fixed_attributes(s) for s in self.steps}

    def kernels(
        self, widths: Widths, dropped: frozenset[str], kernels: Mapping[str, str]
    ) -> list[Kernel]:
        """Everything one inference runs."""
        parts = self.by_part(Configuration(widths, dropped, kernels))
        return [kernel for found in parts.values() for kernel in found]

    def step_kernels(
        self, step: Step, widths: Widths, dropped: frozenset[str], kernels: Mapping[str, str]
    ) -> list[Kernel]:
        """What runs for `step`, boundaries left out, told from its surroundings alone."""
        return self._of_step(step, Configured(self.structure, widths, dropped, kernels, near=True))

    def link_kernels(
        self, link: Link, widths: Widths, dropped: frozenset[str], kernels: Mapping[str, str]
    ) -> list[Kernel]:
        """Changes of precision and layout that the tensor of `link` needs, told likewise."""
        return self._of_link(link, Configured(self.structure, widths, dropped, kernels, near=True))

    def settled(self, c: Configuration) -> Configuration:
        """`c` with the kernels that the runtime really runs (see `Configured`)."""
        kernels = Configured(self.structure, c.widths, c.dropped, c.kernels).settled
        return Configuration(c.widths, c.dropped, kernels)

    def by_part(self, c: Configuration) -> dict[str, list[Kernel]]:
        """What runs for each step and link of a configuration, and the call itself."""
        view = Configured(self.structure, c.widths, c.dropped, c.kernels)
        found = {CALL: [RUN]} | {step_part(s): self._of_step(s, view) for s in self.steps}
        return found | {link_part(e): self._of_link(e, view) for e in self.links}

    def _of_step(self, step: Step, c: Configured) -> list[Kernel]:
        if not c.left(step.node) or (step.op == "Relu" and c.vanishes(step)):
            return []
        conv = self.structure.fused_into.get(step.node)
        if conv and c.fuses(self.by_node[conv]):
            return []  # it runs inside that convolution
        if c.fuses(step):
            return [self._with_add(step, self.by_node[step.residual or ""], c)]
        return self._emit(step, c)

    def _emit(self, step: Step, c: Configured) -> list[Kernel]:
        if step.op == "BatchNormalization" and c.layout(step) is Form.BLOCKED:
            return [self._scale(step, c.shape(step.output))]
        precision, output = c.precision(step.node), c.shape(step.output)
        shapes = tuple(c.shape(t) for t in step.inputs)
        attributes = self._attributes(step, shapes, output)
        if c.layout(step) is Form.LAST and step.op in _ORDERED:
            attributes = tuple(sorted((*attributes, ("layout", '"last"'))))
        if c.layout(step) is Form.BLOCKED and step.op in ("Conv", *POOLS):
            attributes = tuple(sorted((*attributes, BLOCKING if c.blocks(step) else BLOCKED)))
        head = Kernel(step.op, precision, shapes, output, attributes)
        if step.activation is None:
            return [head]
        name, own = step.activation
        if c.absorbs(step):
            attributes = tuple(sorted(attributes + tuple((f"{name}:{k}", v) for k, v in own)))
            return [Kernel(step.op, precision, shapes, output, attributes, (name,))]
        behind = Kernel(name, "fp32", (output,), output, own)
        if precision == "fp32":
            return [head] if c.vanishes(step) else [head, behind]
        first = [_transpose(output, _TO_FIRST)] if c.layout(step) is Form.LAST else []
        return [head, *first, Kernel("DequantizeLinear", "int8", (output,), output), behind]

    def _with_add(self, conv: Step, add: Step, c: Configured) -> Kernel:
        shapes = [c.shape(t) for t in conv.inputs]
        output = c.shape(add.output)
        fused = ("Add",) + ((add.activation[0],) if add.activation else ())
        attributes = self._attributes(conv, tuple(shapes), output)
        if c.layout(conv) is Form.BLOCKED:
            attributes = tuple(sorted((*attributes, BLOCKING if c.blocks(conv) else BLOCKED)))
        other = next(t for t in add.inputs if t != conv.output)
        return Kernel(conv.op, "fp32", (*shapes, c.shape(other)), output, attributes, fused)

    def _scale(self, step: Step, shape: Shape) -> Kernel:
        """A normalisation in blocks runs as a depthwise 1x1 convolution of whole blocks."""
        block = self.capabilities.layouts.block
        channels = -(-shape[1] // block) * block
        shape = (shape[0], channels, *shape[2:])
        attributes = {"group": str(channels), "kernel_shape": "[1,1]"} | dict([BLOCKED])
        fused = (step.activation[0],) if step.activation else ()
        inputs = (shape, (channels, 1, 1, 1), (channels,))
        return Kernel("Conv", "fp32", inputs, shape, tuple(sorted(attributes.items())), fused)

    def _of_link(self, link: Link, c: Configured) -> list[Kernel]:
        if link.producer and not c.left(link.producer) and not c.near_pass(link.producer):
            return []
        steps, leaves = c.readers(link)
        wanted = [c.reads(s, link.tensor) for s in steps] + ([Form.PLAIN] if leaves else [])
        form, shape = c.form(link.tensor), c.shape(link.tensor)
        if form in _FLOATS:
            return _from_floats(form, wanted, shape)
        return _from_integers(form, wanted, shape)

    def _attributes(
        self, step: Step, shapes: tuple[Shape, ...], output: Shape
    ) -> tuple[tuple[str, str], ...]:
        fixed, found = self._fixed[step.node], dict[str, str]()
        if step.op in ("Conv", "ConvTranspose") and dict(fixed).get("group", "1") != "1":
            per_group = shapes[1][1] if step.op == "Conv" else shapes[1][0]
            found["group"] = str(shapes[0][1] // max(1, per_group))
        if step.op in GATES:
            found["hidden_size"] = str(output[-1])
        if step.op == "Pad" and (value := self._steering.get(step.node, {}).get(1)) is not None:
            found["const:1"] = listed(_pads(value, shapes[0], output))
        return tuple(sorted((dict(fixed) | found).items())) if found else fixed

    def _fixed_attributes(self, step: Step) -> tuple[tuple[str, str], ...]:
        """Those that widths do not change, and constants that steer."""
        steering = {} if step.op in _SHAPE_ONLY else self._steering.get(step.node, {})
        constants = {f"const:{i}": listed(value) for i, value in steering.items()}
        return tuple(sorted((dict(step.attributes) | constants).items()))


def _from_floats(form: Form, wanted: list[Form], shape: Shape) -> list[Kernel]:
    """One reordering and one quantisation serve all readers."""
    found = []
    blocked = Form.BLOCKED in wanted
    if form is Form.BLOCKED and set(wanted) - {Form.BLOCKED}:
        found.append(Kernel("ReorderOutput", "fp32", (shape,), shape))
    if form is Form.PLAIN and blocked:
        found.append(Kernel("ReorderInput", "fp32", (shape,), shape))
    if Form.ROWS in wanted or Form.LAST in wanted:
        found.append(Kernel("QuantizeLinear", "int8", (shape,), shape))
    if Form.LAST in wanted:
        found.append(_transpose(shape, _TO_LAST))
    return found


def _from_integers(form: Form, wanted: list[Form], shape: Shape) -> list[Kernel]:
    """One transpose serves all readers, but every fp32 reader has a dequantisation of its own."""
    found = []
    if form is Form.LAST and set(wanted) - {Form.LAST}:
        found.append(_transpose(shape, _TO_FIRST))
    if form is Form.ROWS and Form.LAST in wanted:
        found.append(_transpose(shape, _TO_LAST))
    floats = [w for w in wanted if w in _FLOATS]
    found += [Kernel("DequantizeLinear", "int8", (shape,), shape) for _ in floats]
    blocked = [w for w in wanted if w is Form.BLOCKED]
    return found + [Kernel("ReorderInput", "fp32", (shape,), shape) for _ in blocked]


def _transpose(shape: Shape, order: tuple[int, ...]) -> Kernel:
    """Between channels first and last; `shape` has them first."""
    if order == _TO_LAST:
        before, after = shape, tuple(shape[i] for i in _TO_LAST)
    else:
        before, after = tuple(shape[i] for i in _TO_LAST), shape
    return Kernel("Transpose", "int8", (before,), after, (("perm", listed(order)),))


def _pads(value: list[int], before: Shape, after: Shape) -> list[int]:
    """Pad amounts that lead from one shape to the other; which side hardly matters for time."""
    rank = len(before)
    ends = [a - b - value[i] for i, (a, b) in enumerate(zip(after, before, strict=True))]
    if all(e >= 0 for e in ends):
        return [*value[:rank], *ends]
    return [0] * rank + [a - b for a, b in zip(after, before, strict=True)]


def _containing(coupling: Coupling, node: str) -> frozenset[str]:
    """The branches that take `node` with them; an Add goes with its own branch."""
    return frozenset(b.name for b in coupling.branches if node in b.nodes or node == b.add)
