"""In which form every tensor lies in memory under one configuration.

Runtimes compute fp32 convolutions on blocks of channels and int8 ones with channels last; what
leads from one form to another (a reordering, a transpose, a quantisation) is a kernel of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from hwprune.backend import Capabilities, Shape
from hwprune.graph.channels import Coupling, Widths
from hwprune.latency.structure import Link, Step

_GLOBAL_POOLS = {"GlobalAveragePool", "GlobalMaxPool"}
POOLS = {"MaxPool", "AveragePool"} | _GLOBAL_POOLS
_WHOLE = POOLS | {"BatchNormalization"}  # likely to meet whole blocks, or none


class Form(Enum):
    """How a tensor lies in memory."""

    PLAIN = "fp32"
    BLOCKED = "fp32, channels in blocks"
    ROWS = "int8, channels first"
    LAST = "int8, channels last"


class Shapes:
    """The shape of every tensor at any widths of its groups, each worked out once."""

    def __init__(self, coupling: Coupling) -> None:
        self._coupling = coupling
        self._groups = {
            tensor: tuple(dict.fromkeys(g for axis in axes for g in axis.groups))
            for tensor, axes in coupling.shapes.items()
        }
        self._known: dict[tuple[str | int | None, ...], Shape] = {}

    def at(self, tensor: str, widths: Widths) -> Shape:
        """When the groups have `widths` (absent: the full ones)."""
        key = (tensor, *map(widths.get, self._groups[tensor]))
        if key not in self._known:
            self._known[key] = self._coupling.shape(tensor, widths)
        return self._known[key]


@dataclass(frozen=True, slots=True)
class Structure:
    """What is the same under every configuration; steps and nodes go by the name of the node."""

    steps: Sequence[Step]
    shapes: Shapes
    capabilities: Capabilities
    by_node: Mapping[str, Step]
    producer: Mapping[str, str]
    link_of: Mapping[str, Link]
    readers: Mapping[str, Sequence[Step]]  # of a tensor, when no branch is gone
    within: Mapping[str, frozenset[str]]
    kept_input: Mapping[str, int]
    fused_into: Mapping[str, str]


class Configured:
    """A network under one configuration: what is left of it, how wide, in which forms.

    With `near`, a tensor's form is told from its producer alone, which is taken to find its inputs
    as it likes them: what tables over few variables can hold.
    """

    def __init__(
        self,
        structure: Structure,
        widths: Widths,
        dropped: frozenset[str],
        kernels: Mapping[str, str],
        near: bool = False,
    ) -> None:
        self._structure = structure
        self._layouts = structure.capabilities.layouts
        self._widths = widths
        self._dropped = dropped
        self._kernels = kernels if near else dict(kernels)
        self._near = near
        self._shapes: dict[str, Shape] = {}
        self._forms: dict[str, Form] = {}  # by tensor
        self._computed: dict[str, Form] = {}  # by node
        if not near:
            self.settled = self._settle()

    def shape(self, tensor: str) -> Shape:
        """Of a tensor as wide as it is now."""
        if tensor not in self._shapes:
            self._shapes[tensor] = self._structure.shapes.at(tensor, self._widths)
        return self._shapes[tensor]

    def precision(self, node: str) -> str:
        """What `node` computes in."""
        return self._kernels.get(node, "fp32")

    def left(self, node: str) -> bool:
        """Whether `node` still runs."""
        return not (self._dropped and self._structure.within[node] & self._dropped)

    def passes(self, node: str) -> bool:
        """Whether of `node`, an Add, nothing is left but that it passes one input on."""
        return not self.left(node) and not (self._structure.within[node] - {node}) & self._dropped

    def near_pass(self, node: str) -> bool:
        """Whether `node` passes an input on, and counts as a step that does."""
        return self._near and self.passes(node)

    def readers(self, link: Link) -> tuple[Sequence[Step], bool]:
        """The steps that read the tensor of `link`, and whether it leaves the network."""
        if not self._dropped:
            return self._structure.readers[link.tensor], link.leaves
        found, leaves = list[Step](), link.leaves
        for node in link.consumers:
            if self.left(node) or (self._near and self._hands_on(node, link)):
                found.append(self._structure.by_node[node])
            elif self._hands_on(node, link):
                behind = self._structure.link_of.get(self._structure.by_node[node].output)
                more, out = self.readers(behind) if behind else ([], False)
                found, leaves = [*found, *more], leaves or out
        return found, leaves

    def _hands_on(self, node: str, link: Link) -> bool:
        step = self._structure.by_node[node]
        kept = self._structure.kept_input.get(node)
        return kept is not None and self.passes(node) and step.inputs[kept] == link.tensor

    def _settle(self) -> Mapping[str, str]:
        """Kernels as the runtime chooses them: what reads integers only, and is read as integers
        only, is computed on integers, whoever asked for floats (with weights it quantises itself).
        """
        able = [s for s in self._structure.steps if "int8" in s.precisions and self.left(s.node)]
        kernels = dict(self._kernels)
        while found := [s.node for s in able if self._between_integers(s, kernels)]:
            kernels |= dict.fromkeys(found, "int8")
            self._kernels = kernels
            self._forms.clear()
            self._computed.clear()
        return kernels

    def _between_integers(self, step: Step, kernels: Mapping[str, str]) -> bool:
        if kernels.get(step.node, "fp32") != "fp32":
            return False
        able = self._structure.capabilities.activations.get("int8", frozenset())
        if step.activation and step.activation[0] not in able:
            return False
        link = self._structure.link_of.get(step.output)
        readers, leaves = self.readers(link) if link else ([], True)
        integers = [self.precision(r.node) == "int8" for r in readers]
        return not leaves and bool(integers) and all(integers) and self._reads_integers(step)

    def _reads_integers(self, step: Step) -> bool:
        computed = [t for t in step.inputs if t in self._structure.link_of]
        return bool(computed) and all(self._made_of_integers(t) for t in computed)

    def _made_of_integers(self, tensor: str) -> bool:
        node = self._structure.producer.get(tensor)
        if node is None:
            return False
        step = self._structure.by_node[node]
        if self.passes(node):
            return self._made_of_integers(step.inputs[self._structure.kept_input[node]])
        whole = step.activation is None or self.absorbs(step)
        return self.precision(node) == "int8" and whole

    def vanishes(self, step: Step) -> bool:
        """Whether the fp32 Relu at the end of `step` disappears into the quantisations behind."""
        last = step.activation[0] if step.activation else step.op
        if last != "Relu" or self._near or self.precision(step.node) == "int8":
            return False
        link = self._structure.link_of.get(step.output)
        readers, leaves = self.readers(link) if link else ([], True)
        return (
            not leaves and bool(readers) and all(self.precision(r.node) == "int8" for r in readers)
        )

    def form(self, tensor: str) -> Form:
        """How the producer of `tensor` leaves it."""
        if tensor not in self._forms:
            self._forms[tensor] = self._form(tensor)
        return self._forms[tensor]

    def _form(self, tensor: str) -> Form:
        node = self._structure.producer.get(tensor)
        if node is None:
            return Form.PLAIN
        step = self._structure.by_node[node]
        if self.passes(node) and not self._near:
            return self.form(step.inputs[self._structure.kept_input[node]])
        if conv := self._computed_by(node):
            return self.layout(conv)
        if step.op == "Relu" and self.vanishes(step):
            return self.form(step.inputs[0])
        if self.precision(node) == "int8" and step.activation and not self.absorbs(step):
            return Form.PLAIN
        return self._likely(step, tensor) if self._near else self.layout(step)

    def layout(self, step: Step) -> Form:
        """What `step` computes in, its activation left out."""
        if step.node not in self._computed:
            self._computed[step.node] = self._layout(step)
        return self._computed[step.node]

    def _layout(self, step: Step) -> Form:
        image = len(self.shape(step.output)) == 4
        if self.precision(step.node) == "int8":
            return self._of_integers(step) if image else Form.ROWS
        return Form.BLOCKED if image and self._in_blocks(step) else Form.PLAIN

    def absorbs(self, step: Step) -> bool:
        """Whether the activation of `step` runs inside its kernel."""
        precision = self.precision(step.node)
        if step.activation is None or (step.op == "Add" and precision == "fp32"):
            return False
        if step.op == "BatchNormalization":
            return self.layout(step) is Form.BLOCKED
        able = self._structure.capabilities.activations.get(precision, frozenset())
        return step.activation[0] in able

    def fuses(self, step: Step) -> bool:
        """Whether `step`, a convolution or MatMul, computes the Add behind it on the way."""
        if step.residual is None or not (self.left(step.residual) and self.left(step.node)):
            return False
        precision = self.precision(step.node)
        if (self.precision(step.residual) == "int8") != (precision == "int8"):
            return False
        able = self._structure.capabilities
        if step.op == "MatMul":
            return precision in able.bias_fused
        if precision not in able.residual_fused:
            return False
        if self._near or self.layout(step) is not Form.BLOCKED:
            return True
        other = [t for t in self._structure.by_node[step.residual].inputs if t != step.output]
        return all(self.form(t) is Form.BLOCKED for t in other)

    def _computed_by(self, node: str) -> Step | None:
        """The convolution that computes `node`, an Add, on the way; from near, nobody can tell."""
        conv = self._structure.fused_into.get(node)
        if self._near or conv is None or not self.fuses(self._structure.by_node[conv]):
            return None
        return self._structure.by_node[conv]

    def _likely(self, step: Step, tensor: str) -> Form:
        """What `step` computes in, told from a tensor that it reads or writes."""
        shape = self.shape(tensor)
        if self.precision(step.node) == "int8" or len(shape) != 4:
            return self.layout(step)
        if self._layouts.block == 1 or step.op not in self._layouts.blocked:
            return Form.PLAIN
        dense = step.op == "Conv" and self._groups(step) == 1
        multiple = self._layouts.block if step.op in _WHOLE else self._layouts.multiple
        written = tensor == step.output
        fits = (dense and written) or shape[1] % multiple == 0
        return Form.BLOCKED if fits and (written or not self.blocks(step)) else Form.PLAIN

    def reads(self, step: Step, tensor: str) -> Form:
        """The form in which `step` takes its input `tensor`."""
        if self._near:
            return self._likely(step, tensor)
        if self.precision(step.node) == "int8":
            return self.layout(step)
        if conv := self._computed_by(step.node):
            return self.layout(conv)
        blocked = self.layout(step) is Form.BLOCKED
        return Form.BLOCKED if blocked and not self.blocks(step) else Form.PLAIN

    def _of_integers(self, step: Step) -> Form:
        if step.op in self._layouts.channels_last:
            return Form.LAST
        if step.op not in self._layouts.either:
            return Form.ROWS
        if self._near:
            return Form.LAST if self._layouts.channels_last else Form.ROWS
        votes = [self._integers(t) is Form.LAST for t in step.inputs]
        ahead = 2 * sum(votes) - len(votes)
        return Form.LAST if ahead > 0 or (ahead == 0 and self._leads_on(step)) else Form.ROWS

    def _integers(self, tensor: str) -> Form:
        """The form of the int8 tensor that stands for `tensor`."""
        form = self.form(tensor)
        return form if form in (Form.ROWS, Form.LAST) else Form.ROWS

    def _leads_on(self, step: Step) -> bool:
        """Whether somebody behind wants channels last."""
        link = self._structure.link_of.get(step.output)
        readers = self.readers(link)[0] if link else []
        last = self._layouts.channels_last
        return any(self.precision(r.node) == "int8" and r.op in last for r in readers)

    def _in_blocks(self, step: Step) -> bool:
        if self._layouts.block == 1 or step.op not in self._layouts.blocked:
            return False
        if step.op == "Conv":
            channels, outputs = self.shape(step.inputs[0])[1], self.shape(step.inputs[1])[0]
            return self._layouts.convolves_in_blocks(channels, outputs, self._groups(step))
        channels = self.shape(step.inputs[0])[1]
        whole = channels % self._layouts.block == 0
        follows = whole if self._near else self.form(step.inputs[0]) is Form.BLOCKED
        if step.op == "BatchNormalization":
            return follows
        if step.op in POOLS:
            return whole and (follows or step.op not in _GLOBAL_POOLS)
        if self._near:  # its inputs are as it likes them
            return channels % self._layouts.multiple == 0
        shapes = {self.shape(t) for t in step.inputs}
        if step.op == "Concat":
            fits = all(s[1] % self._layouts.block == 0 for s in shapes)
        else:
            fits = len(shapes) == 1
        return fits and all(self.form(t) is Form.BLOCKED for t in step.inputs)

    def blocks(self, step: Step) -> bool:
        """Whether `step` is a convolution of so few channels that it reads them as they are."""
        dense = step.op == "Conv" and self._groups(step) == 1
        return dense and self.shape(step.inputs[0])[1] < self._layouts.block

    def _groups(self, step: Step) -> int:
        return self.shape(step.inputs[0])[1] // max(1, self.shape(step.inputs[1])[1])
