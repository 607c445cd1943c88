"""The kernels of a step, written down: which operators, with which shapes and attributes."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from hwprune.backend import Kernel, Shape
from hwprune.graph.recurrent import GATES
from hwprune.latency.boundaries import TO_FIRST, transposed
from hwprune.latency.layouts import POOLS, Form
from hwprune.latency.structure import Step, listed

_SHAPE_ONLY = {"Reshape", "Expand", "Squeeze", "Unsqueeze", "Flatten"}
_ORDERED = {"Concat", "MaxPool", "AveragePool", "GlobalAveragePool"}  # layout tells on their time
BLOCKED = ("layout", '"blocked"')  # the attribute of a convolution or pool on blocks of channels
BLOCKING = ("layout", '"blocking"')  # of one that reads few channels as they are and writes blocks
_LAST = ("layout", '"last"')
_KNOWN = 1 << 16  # settings whose kernels are remembered

Attributes = tuple[tuple[str, str], ...]


class Setting(NamedTuple):
    """All that tells on the kernels of a step; its output is that of the Add that it computes on
    the way if there is something `added`.
    """

    node: str
    precision: str
    form: Form  # what it computes in
    few: bool  # it reads fewer channels than a block, as they are
    absorbs: bool  # its activation
    vanishes: bool  # its activation, into quantisations behind
    carries: bool  # its activation is fp32 behind integers and leaves channels last
    inputs: tuple[Shape, ...]
    output: Shape
    added: Shape | None


class Emitter:
    """Kernels of the steps of one graph; `block` channels in a block."""

    def __init__(
        self, steps: Sequence[Step], steering: Mapping[str, Mapping[int, Any]], block: int
    ) -> None:
        self._steps = {s.node: s for s in steps}
        self._steering = steering
        self._block = block
        self._fixed = {s.node: self._fixed_attributes(s) for s in steps}
        self.kernels = lru_cache(_KNOWN)(self._kernels)

    def _kernels(self, s: Setting) -> tuple[Kernel, ...]:
        step = self._steps[s.node]
        if s.added is not None:
            return self._with_add(step, s, s.added)
        if step.op == "BatchNormalization" and s.form is Form.BLOCKED:
            return (self._scale(step, s.output),)
        attributes = self._laid_out(step, s)
        head = Kernel(step.op, s.precision, s.inputs, s.output, attributes)
        if step.activation is None:
            return (head,)
        name, own = step.activation
        if s.absorbs:
            attributes = tuple(sorted(attributes + tuple((f"{name}:{k}", v) for k, v in own)))
            return (Kernel(step.op, s.precision, s.inputs, s.output, attributes, (name,)),)
        behind = Kernel(name, "fp32", (s.output,), s.output, own)
        if s.precision != "int8":
            return (head,) if s.vanishes else (head, behind)
        turned = s.form is Form.LAST and not s.carries
        first = [transposed(s.output, TO_FIRST)] if turned else []
        return head, *first, Kernel("DequantizeLinear", "int8", (s.output,), s.output), behind

    def _with_add(self, step: Step, s: Setting, added: Shape) -> tuple[Kernel, ...]:
        """The activation behind the Add runs inside fp32 kernels only."""
        name, own = self._steps[step.residual or ""].activation or ("", ())
        alone = bool(name) and s.precision != "fp32"
        fused = ("Add", name) if name and not alone else ("Add",)
        attributes, inputs = self._laid_out(step, s), (*s.inputs, added)
        head = Kernel(step.op, s.precision, inputs, s.output, attributes, fused)
        behind = Kernel(name, "fp32", (s.output,), s.output, own)
        return (head, behind) if alone and not s.vanishes else (head,)

    def _scale(self, step: Step, shape: Shape) -> Kernel:
        """A normalisation in blocks runs as a depthwise 1x1 convolution of whole blocks."""
        channels = -(-shape[1] // self._block) * self._block
        shape = (shape[0], channels, *shape[2:])
        attributes = {"group": str(channels), "kernel_shape": "[1,1]"} | dict([BLOCKED])
        fused = (step.activation[0],) if step.activation else ()
        inputs = (shape, (channels, 1, 1, 1), (channels,))
        return Kernel("Conv", "fp32", inputs, shape, tuple(sorted(attributes.items())), fused)

    def _laid_out(self, step: Step, s: Setting) -> Attributes:
        """The attributes, with the layout where it tells on the time."""
        found = self._attributes(step, s.inputs, s.output)
        if s.form is Form.LAST and step.op in _ORDERED:
            return tuple(sorted((*found, _LAST)))
        if s.form is Form.BLOCKED and step.op in ("Conv", *POOLS):
            return tuple(sorted((*found, BLOCKING if s.few else BLOCKED)))
        return found

    def _attributes(self, step: Step, shapes: tuple[Shape, ...], output: Shape) -> Attributes:
        fixed, found = self._fixed[step.node], dict[str, str]()
        if step.op in ("Conv", "ConvTranspose") and dict(fixed).get("group", "1") != "1":
            per_group = shapes[1][1] if step.op == "Conv" else shapes[1][0]
            found["group"] = str(shapes[0][1] // max(1, per_group))
        if step.op in GATES:
            found["hidden_size"] = str(output[-1])
        if step.op == "Pad" and (value := self._steering.get(step.node, {}).get(1)) is not None:
            found["const:1"] = listed(_pads(value, shapes[0], output))
        return tuple(sorted((dict(fixed) | found).items())) if found else fixed

    def _fixed_attributes(self, step: Step) -> Attributes:
        """Those that widths do not change, and constants that steer."""
        steering = {} if step.op in _SHAPE_ONLY else self._steering.get(step.node, {})
        constants = {f"const:{i}": listed(value) for i, value in steering.items()}
        return tuple(sorted((dict(step.attributes) | constants).items()))


def _pads(value: list[int], before: Shape, after: Shape) -> list[int]:
    """Pad amounts that lead from one shape to the other; which side hardly matters for time."""
    rank = len(before)
    ends = [a - b - value[i] for i, (a, b) in enumerate(zip(after, before, strict=True))]
    if all(e >= 0 for e in ends):
        return [*value[:rank], *ends]
    return [0] * rank + [a - b for a, b in zip(after, before, strict=True)]
