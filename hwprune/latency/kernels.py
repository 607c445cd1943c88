"""Which kernels the runtime executes for a graph at given widths and precisions (design D4).

What is fused depends on the precision, the layout and the target's stated capabilities: Conv + Add
+ Relu is one kernel in fp32 on onnxruntime, while in int8 it is QLinearConv and QLinearAdd. Where
precision or layout changes between two steps, boundary kernels are paid.
"""

from collections.abc import Mapping, Sequence

import onnx_graphsurgeon as gs

from hwprune.backend import RUN, Capabilities, Kernel, Shape
from hwprune.graph.channels import Coupling, Widths
from hwprune.latency.boundaries import boundaries
from hwprune.latency.emission import Emitter, Setting
from hwprune.latency.layouts import Configured, Form, Shapes, Structure
from hwprune.latency.structure import Link, Step, links_of, steering_inputs, steps_of
from hwprune.plan import Configuration

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
            readers={e.tensor: [self.by_node[n] for n in e.consumers] for e in self.links},
            within=self.within,
            kept_input={b.add: b.kept_input for b in coupling.branches},
            fused_into={s.residual: s.node for s in self.steps if s.residual},
        )
        self._step_parts = [(step_part(s), s) for s in self.steps]
        self._link_parts = [(link_part(e), e) for e in self.links]
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
        return self._of_step(step, Configured(self.structure, widths, dropped, kernels, near=True))

    def link_kernels(
        self, link: Link, widths: Widths, dropped: frozenset[str], kernels: Mapping[str, str]
    ) -> Sequence[Kernel]:
        """Changes of precision and layout that the tensor of `link` needs, told likewise."""
        return self._of_link(link, Configured(self.structure, widths, dropped, kernels, near=True))

    def settled(self, c: Configuration) -> Configuration:
        """`c` with the kernels that the runtime really runs (see `Configured`)."""
        kernels = Configured(self.structure, c.widths, c.dropped, c.kernels).settled
        return Configuration(c.widths, c.dropped, kernels)

    def by_part(self, c: Configuration) -> dict[str, Sequence[Kernel]]:
        """What runs for each step and link of a configuration, and the call itself."""
        view = Configured(self.structure, c.widths, c.dropped, c.kernels)
        found: dict[str, Sequence[Kernel]] = {CALL: [RUN]}
        for name, step in self._step_parts:
            found[name] = self._of_step(step, view)
        for name, link in self._link_parts:
            found[name] = self._of_link(link, view)
        return found

    def _of_step(self, step: Step, c: Configured) -> Sequence[Kernel]:
        if not c.left(step.node) or (step.op == "Relu" and c.vanishes(step)):
            return []
        conv = self.structure.fused_into.get(step.node)
        if conv and c.fuses(self.by_node[conv]):
            return []  # it runs inside that convolution
        if not c.fuses(step):
            return self._emitter.kernels(self._setting(step, c))
        other = next(t for t in self.by_node[step.residual or ""].inputs if t != step.output)
        return self._emitter.kernels(self._setting(step, c, added=c.shape(other)))

    def _setting(self, step: Step, c: Configured, added: Shape | None = None) -> Setting:
        """Of `step`, which computes the Add behind it on the way if there is something `added`."""
        last = step if added is None else self.by_node[step.residual or ""]
        form = c.layout(step)
        return Setting(
            step.node,
            c.precision(step.node),
            form,
            form is Form.BLOCKED and c.blocks(step),
            c.absorbs(step),
            c.vanishes(last),
            tuple([c.shape(t) for t in step.inputs]),
            c.shape(last.output),
            added,
        )

    def _of_link(self, link: Link, c: Configured) -> Sequence[Kernel]:
        if link.producer and not c.left(link.producer) and not c.near_pass(link.producer):
            return []
        steps, leaves = c.readers(link)
        wanted = [c.reads(s, link.tensor) for s in steps] + ([Form.PLAIN] if leaves else [])
        form, shape = c.form(link.tensor), c.shape(link.tensor)
        return boundaries(form, tuple(wanted), shape)


def _containing(coupling: Coupling, node: str) -> frozenset[str]:
    """The branches that take `node` with them; an Add goes with its own branch."""
    return frozenset(b.name for b in coupling.branches if node in b.nodes or node == b.add)
