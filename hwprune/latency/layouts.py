"""In which form tensors lie in memory, and what one step alone says about it.

Runtimes compute fp32 convolutions on blocks of channels and int8 ones with channels last; what
leads from one form to another (a reordering, a transpose, a quantisation) is a kernel of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from hwprune.backend import Capabilities, Shape
from hwprune.graph.channels import Coupling, Widths
from hwprune.latency.structure import Link, Step

GLOBAL_POOLS = {"GlobalAveragePool", "GlobalMaxPool"}
POOLS = {"MaxPool", "AveragePool"} | GLOBAL_POOLS


class Form(IntEnum):
    """How a tensor lies in memory."""

    PLAIN = 0  # fp32
    BLOCKED = 1  # fp32, channels in blocks
    ROWS = 2  # int8, channels first
    LAST = 3  # int8, channels last
    FLOATS_LAST = 4  # fp32, channels last, as it came from integers


CHANNELS_LAST = frozenset({Form.LAST, Form.FLOATS_LAST})


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

    def groups(self, tensors: Sequence[str]) -> tuple[str, ...]:
        """The groups that the shapes of `tensors` depend on."""
        return tuple(dict.fromkeys(g for t in tensors for g in self._groups[t]))


@dataclass(frozen=True, slots=True)
class Structure:
    """What is the same under every configuration; steps and nodes go by the name of the node."""

    shapes: Shapes
    capabilities: Capabilities
    by_node: Mapping[str, Step]
    producer: Mapping[str, str]
    link_of: Mapping[str, Link]
    readers: Mapping[str, Sequence[Step]]  # of a tensor, when no branch is gone
    within: Mapping[str, frozenset[str]]
    kept_input: Mapping[str, int]
    fused_into: Mapping[str, str]

    def left(self, node: str, dropped: frozenset[str]) -> bool:
        """Whether `node` still runs without the branches `dropped`."""
        return not (dropped and self.within[node] & dropped)

    def passes(self, node: str, dropped: frozenset[str]) -> bool:
        """Whether of `node`, an Add, nothing is left but that it passes one input on."""
        inside = self.within[node]
        return bool(inside & dropped) and not (inside - {node}) & dropped

    def passed_on(self, node: str, dropped: frozenset[str]) -> str | None:
        """The tensor that `node`, an Add that is gone, passes on."""
        kept = self.kept_input.get(node)
        if kept is None or not self.passes(node, dropped):
            return None
        return self.by_node[node].inputs[kept]

    def is_image(self, step: Step) -> bool:
        """Whether what `step` writes has channels and two axes of places."""
        return len(self.shapes.at(step.output, {})) == 4

    def extent(self, tensor: str) -> int:
        """How many axes are longer than 1."""
        return sum(n != 1 for n in self.shapes.at(tensor, {}))

    def absorbs(self, step: Step, precision: str, form: Form) -> bool:
        """Whether the activation of `step` runs inside its kernel, which computes in `form`."""
        if step.activation is None or (step.op == "Add" and precision == "fp32"):
            return False
        if step.op == "BatchNormalization":
            return form is Form.BLOCKED
        return step.activation[0] in self.capabilities.activations.get(precision, frozenset())

    def ends_on_integers(self, step: Step) -> bool:
        """Whether what `step` writes is int8, its activation included, if it computes on them."""
        able = self.capabilities.activations.get("int8", frozenset())
        return step.activation is None or step.activation[0] in able

    def touched(self, step: Step) -> tuple[str, ...]:
        """The groups that `step` depends on, or the Add behind it that it may compute."""
        add = self.by_node[step.residual] if step.residual else None
        more = (*add.inputs, add.output) if add else ()
        return self.shapes.groups([*step.inputs, step.output, *more])

    def may_fuse(self, step: Step, precision: str, behind: str) -> bool:
        """Whether the target has a kernel of `step` with the Add behind it, which computes in
        `behind`.
        """
        if step.residual is None or (precision == "int8") != (behind == "int8"):
            return False
        able = self.capabilities
        return precision in (able.bias_fused if step.op == "MatMul" else able.residual_fused)

    def convolves_in_blocks(self, step: Step, widths: Widths) -> bool:
        """Whether `step`, an fp32 convolution of an image, computes on blocks of channels."""
        channels = self.shapes.at(step.inputs[0], widths)[1]
        outputs = self.shapes.at(step.inputs[1], widths)[0]
        layouts = self.capabilities.layouts
        return layouts.convolves_in_blocks(channels, outputs, self.groups(step, widths))

    def fits_blocks(self, step: Step, widths: Widths) -> bool:
        """Whether the widths of `step`, on images in fp32, let it compute on blocks of channels."""
        if step.op == "Conv":
            return self.convolves_in_blocks(step, widths)
        block = self.capabilities.layouts.block
        if step.op in POOLS:
            return self.channels(step, widths) % block == 0
        shapes = {self.shapes.at(t, widths) for t in step.inputs}
        if step.op == "Concat":
            return all(shape[1] % block == 0 for shape in shapes)
        return step.op == "BatchNormalization" or len(shapes) == 1

    def channels(self, step: Step, widths: Widths) -> int:
        """Of the first image that `step` reads."""
        shapes = (self.shapes.at(t, widths) for t in step.inputs)
        return next(shape[1] for shape in shapes if len(shape) == 4)

    def reads_few(self, step: Step, widths: Widths) -> bool:
        """Whether `step` is a convolution of so few channels that it reads them as they are."""
        dense = step.op == "Conv" and self.groups(step, widths) == 1
        few = self.shapes.at(step.inputs[0], widths)[1] < self.capabilities.layouts.block
        return dense and few

    def groups(self, step: Step, widths: Widths) -> int:
        """Of a convolution."""
        per_group = self.shapes.at(step.inputs[1], widths)[1]
        return self.shapes.at(step.inputs[0], widths)[1] // max(1, per_group)
