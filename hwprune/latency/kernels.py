"""Which kernels the runtime executes for a graph at given widths and precisions (design D4).

What is fused depends on the precision, the layout and the target's stated capabilities: Conv + Add
+ Relu is one kernel in fp32 on onnxruntime, while in int8 it is QLinearConv and QLinearAdd. Where
precision or layout changes between two steps, boundary kernels are paid.
"""

from collections.abc import Iterator, Mapping, Sequence

import onnx_graphsurgeon as gs

from hwprune.backend import RUN, Capabilities, Kernel
from hwprune.graph.channels import Coupling, Widths
from hwprune.latency.boundaries import boundaries
from hwprune.latency.emission import Emitter, Setting
from hwprune.latency.layouts import Form, Shapes, Structure
from hwprune.latency.nearby import Nearby
from hwprune.latency.structure import Link, Step, links_of, steering_inputs, steps_of
from hwprune.latency.whole import LinkKey, Place, StepKey, Whole
from hwprune.plan import Configuration
from hwprune.precision import INT8

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
            shapes=Shapes(coupling),
            capabilities=capabilities,
            by_node=self.by_node,
            producer={s.output: s.node for s in self.steps},
            link_of={link.tensor: link for link in self.links},
            readers={e.tensor: [self.by_node[n] for n in e.consumers] for e in self.links},
            within=self.within,
            kept_input={b.add: b.kept_input for b in coupling.branches},
            fused_into={s.residual: s.node for s in self.steps if s.residual},
        )
        shapes = self.structure.shapes
        self._places = {s.node: Place(s, self.structure) for s in self.steps}
        self._by_node = {p.step.node: (step_part(p.step), p.groups) for p in self._places.values()}
        self._by_tensor = {e.tensor: (link_part(e), shapes.groups([e.tensor])) for e in self.links}
        self._emitter = Emitter(self.steps, steering_inputs(graph), capabilities.layouts.block)

    def kernels(
        self, widths: Widths, dropped: frozenset[str], kernels: Mapping[str, str]
    ) -> list[Kernel]:
        """Everything one inference runs."""
        parts = self.by_part(Configuration(widths, dropped, kernels))
        return [kernel for found in parts.values() for kernel in found]

    def step_kernels(
        self, step: Step, widths: Widths, dropped: frozenset[str], kernels: Mapping[str, str]
    ) -> Sequence[Kernel]:
        """What runs for `step`, boundaries left out, told from its surroundings alone."""
        near = Nearby(self.structure, widths, dropped, kernels)
        conv = self.structure.fused_into.get(step.node)
        if not near.left(step.node) or (conv and near.fuses(self.by_node[conv])):
            return []
        told = near.precision(step.node), near.layout(step), False, False, near.fuses(step)
        return self._emitter.kernels(self._setting(step, *told, widths))

    def link_kernels(
        self, link: Link, widths: Widths, dropped: frozenset[str], kernels: Mapping[str, str]
    ) -> Sequence[Kernel]:
        """Changes of precision and layout that the tensor of `link` needs, told likewise."""
        near = Nearby(self.structure, widths, dropped, kernels)
        if not near.runs(link):
            return []
        wanted = [near.reads(s, link.tensor) for s in near.readers(link)]
        wanted += [Form.PLAIN] if link.leaves else []
        shape = self.structure.shapes.at(link.tensor, widths)
        return boundaries(near.form(link.tensor), tuple(wanted), shape)

    def settled(self, c: Configuration) -> Configuration:
        """`c` with the kernels that the runtime really runs (see `Whole`)."""
        kernels = self._whole(c).kernels
        bits = {n: b for n, b in c.weight_bits.items() if kernels.get(n) == INT8}
        return Configuration(c.widths, c.dropped, kernels, bits)

    def by_part(self, c: Configuration) -> dict[str, Sequence[Kernel]]:
        """What runs for each step and link of a configuration, and the call itself."""
        found: dict[str, Sequence[Kernel]] = {CALL: [RUN]}
        found |= {part: () for part, _ in (*self._by_node.values(), *self._by_tensor.values())}
        return found | {self.part(key): self.run_by(key) for key in self.keys(c)}

    def keys(self, c: Configuration) -> Iterator[StepKey | LinkKey]:
        """What each part that runs anything runs by."""
        whole = self._whole(c)
        yield from whole.step_keys()
        for link in self.links:
            if key := whole.link_key(link, self._by_tensor[link.tensor][1]):
                yield key

    def part(self, key: StepKey | LinkKey) -> str:
        """The part that a key belongs to."""
        return self._known(key)[0]

    def run_by(self, key: StepKey | LinkKey) -> Sequence[Kernel]:
        """What runs for a part, by its key."""
        pairs = zip(self._known(key)[1], key.widths, strict=True)
        widths = {group: width for group, width in pairs if width is not None}
        if isinstance(key, LinkKey):
            shape = self.structure.shapes.at(key.tensor, widths)
            return boundaries(key.form, key.wanted, shape)
        told = key.precision, key.form, key.vanishes, key.carries, key.fuses
        return self._emitter.kernels(self._setting(self.by_node[key.node], *told, widths))

    def _known(self, key: StepKey | LinkKey) -> tuple[str, tuple[str, ...]]:
        """The part of a key, and the groups that its widths are of."""
        return self._by_tensor[key.tensor] if isinstance(key, LinkKey) else self._by_node[key.node]

    def _whole(self, c: Configuration) -> Whole:
        return Whole(self.structure, self._places, c.widths, c.dropped, c.kernels)

    def _setting(
        self,
        step: Step,
        precision: str,
        form: Form,
        vanishes: bool,
        carries: bool,
        fuses: bool,
        widths: Widths,
    ) -> Setting:
        """Of `step`; its output is that of the Add behind it if it `fuses` with that."""
        structure, output, added = self.structure, step.output, None
        if fuses:
            add = self.by_node[step.residual or ""]
            other = next(t for t in add.inputs if t != step.output)
            output, added = add.output, structure.shapes.at(other, widths)
        return Setting(
            step.node,
            precision,
            form,
            form is Form.BLOCKED and structure.reads_few(step, widths),
            structure.absorbs(step, precision, form),
            vanishes,
            carries,
            tuple([structure.shapes.at(t, widths) for t in step.inputs]),
            structure.shapes.at(output, widths),
            added,
        )


def _containing(coupling: Coupling, node: str) -> frozenset[str]:
    """The branches that take `node` with them; an Add goes with its own branch."""
    return frozenset(b.name for b in coupling.branches if node in b.nodes or node == b.add)
