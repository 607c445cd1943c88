"""Forms told from near: from a step or link alone, as tables over few variables can hold them.

The producer of a tensor is taken to find its inputs as it likes them, and so are its readers.
"""

from collections.abc import Mapping, Sequence

from hwprune.graph.channels import Widths
from hwprune.latency.layouts import POOLS, Form, Structure
from hwprune.latency.structure import Link, Step

_WHOLE = POOLS | {"BatchNormalization"}  # likely to meet whole blocks, or none


class Nearby:
    """The surroundings of a step or link under one configuration."""

    def __init__(
        self,
        structure: Structure,
        widths: Widths,
        dropped: frozenset[str],
        kernels: Mapping[str, str],
    ) -> None:
        self._structure = structure
        self._layouts = structure.capabilities.layouts
        self._widths = widths
        self._dropped = dropped
        self._kernels = kernels

    def precision(self, node: str) -> str:
        """What `node` computes in."""
        return self._kernels.get(node, "fp32")

    def left(self, node: str) -> bool:
        """Whether `node` still runs."""
        return self._structure.left(node, self._dropped)

    def runs(self, link: Link) -> bool:
        """Whether the tensor of `link` is there: computed, or passed on."""
        node = link.producer
        return not node or self.left(node) or self._structure.passes(node, self._dropped)

    def readers(self, link: Link) -> Sequence[Step]:
        """The steps that read the tensor of `link`, those that pass it on among them."""
        readers = self._structure.readers[link.tensor]
        if not self._dropped:
            return readers
        passed_on = self._structure.passed_on
        return [
            s
            for s in readers
            if self.left(s.node) or passed_on(s.node, self._dropped) == link.tensor
        ]

    def fuses(self, step: Step) -> bool:
        """Whether `step`, a convolution or MatMul, computes the Add behind it on the way."""
        if step.residual is None or not (self.left(step.residual) and self.left(step.node)):
            return False
        behind = self.precision(step.residual)
        return self._structure.may_fuse(step, self.precision(step.node), behind)

    def form(self, tensor: str) -> Form:
        """How the producer of `tensor` leaves it."""
        node = self._structure.producer.get(tensor)
        if node is None:
            return Form.PLAIN
        step, precision = self._structure.by_node[node], self.precision(node)
        if precision == "int8" and not self._structure.ends_on_integers(step):
            return Form.PLAIN
        return self.reads(step, tensor)

    def layout(self, step: Step) -> Form:
        """What `step` computes in, its activation left out."""
        image = self._structure.is_image(step)
        if self.precision(step.node) == "int8":
            return self._of_integers(step) if image else Form.ROWS
        return Form.BLOCKED if image and self._in_blocks(step) else Form.PLAIN

    def reads(self, step: Step, tensor: str) -> Form:
        """What `step` likely computes in, told from a `tensor` that it reads or writes."""
        shape = self._structure.shapes.at(tensor, self._widths)
        if self.precision(step.node) == "int8" or len(shape) != 4:
            return self.layout(step)
        if self._layouts.block == 1 or step.op not in self._layouts.blocked:
            return Form.PLAIN
        dense = step.op == "Conv" and self._structure.groups(step, self._widths) == 1
        multiple = self._layouts.block if step.op in _WHOLE else self._layouts.multiple
        written = tensor == step.output
        fits = (dense and written) or shape[1] % multiple == 0
        few = self._structure.reads_few(step, self._widths)
        return Form.BLOCKED if fits and (written or not few) else Form.PLAIN

    def _of_integers(self, step: Step) -> Form:
        if step.op in self._layouts.channels_last:
            return Form.LAST
        either = step.op in self._layouts.either and self._layouts.channels_last
        return Form.LAST if either else Form.ROWS

    def _in_blocks(self, step: Step) -> bool:
        if self._layouts.block == 1 or step.op not in self._layouts.blocked:
            return False
        if step.op == "Conv":
            return self._structure.convolves_in_blocks(step, self._widths)
        channels = self._structure.channels(step, self._widths)
        multiple = self._layouts.block if step.op in _WHOLE else self._layouts.multiple
        return channels % multiple == 0
