"""Puts the choice of bits into a quantised twin, and takes it out again."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import cast

import numpy as np
import onnx_graphsurgeon as gs
import torch
from torch import Tensor, fx, nn

from hwprune.differentiable.channelwise import Bits, Gate, Mixed, Presence, Presences
from hwprune.differentiable.costs import Use, uses_of
from hwprune.differentiable.decisions import Decision, Inclinations
from hwprune.differentiable.structure import Row, product_of, summed_input
from hwprune.graph.channels import ChannelGroup, Coupling
from hwprune.graph.cost import output_axis
from hwprune.quantize.kinds import WeightKind, kind_of
from hwprune.quantize.quantizers import plain_layer, quantized_layer

_PRESENCES, _GATE = "presences", "gate_"
_SURE = 1e3  # a logit beside which others do not count


class Mixture:
    """A twin, instrumented with full widths, whose products choose: in place, until `remove`.

    Args:
        module: Of `hwprune.quantize.ptq.quantize`.
        graph: What it is the twin of.
        coupling: Of that graph.
        bits: The options; 0 lets channels go, 8 are all that the target multiplies.
        least: Channels that every group keeps, 1 where it is not named.
    """

    def __init__(
        self,
        module: fx.GraphModule,
        graph: gs.Graph,
        coupling: Coupling,
        bits: Collection[int],
        least: Mapping[str, int] | None = None,
    ) -> None:
        self.module, self.coupling = module, coupling
        self.nodes = {node.name: node for node in graph.nodes}
        self.row = Row(coupling, coupling.prunable if 0 in bits else ())
        self.paths = _paths(module, graph)
        self.originals = {n: module.get_submodule(path) for n, path in self.paths.items()}
        self.mixed = {n: self._mixed(layer, sorted(bits)) for n, layer in self.originals.items()}
        self.products = [
            product_of(self.nodes[n], _options(layer), self.row) for n, layer in self.mixed.items()
        ]
        self.presences = self._presences(least or {})
        module.add_module(_PRESENCES, self.presences)
        for name, path in self.paths.items():
            module.set_submodule(path, self.mixed[name])
        self.gates = self._place_gates(graph)
        module.eval().recompile()

    @property
    def logits(self) -> list[nn.Parameter]:
        """What chooses."""
        found = [layer.bits.logits for layer in self.mixed.values()]
        return found + [self._presence(g).zero for g in self.row.groups]

    def cool(self, temperature: float) -> None:
        """Sets the temperature of all shares."""
        for choice in self.module.modules():
            if isinstance(choice, Bits | Presence):
                choice.temperature.fill_(temperature)

    def uses(self) -> list[Use]:
        """What the shares of now leave of every product."""
        row = self.presences()
        return uses_of(self.products, [layer.bits.shares() for layer in self.mixed.values()], row)

    def inclinations(self) -> "Inclinations":
        """What the logits of now say."""
        logits = {n: layer.bits.logits.detach().clone() for n, layer in self.mixed.items()}
        zeros = {g.name: self._presence(g).zero.detach().clone() for g in self.row.groups}
        makers = {g.name: self._makers(g) for g in self.row.groups}
        return Inclinations(self.row, tuple(self.products), logits, zeros, makers)

    @torch.no_grad()
    def settle(self, decision: Decision) -> None:
        """From now on the shares are those of a decision, in training, too."""
        self.cool(1.0)
        for product in self.products:
            chosen = np.equal.outer(product.bits, decision.bits[product.node])
            self.mixed[product.node].bits.logits.copy_(_SURE * torch.from_numpy(chosen))
        for group in self.row.groups:
            kept = torch.from_numpy(decision.kept[group.name])
            self._presence(group).zero.copy_(2 * _SURE * ~kept)

    def remove(self) -> None:
        """The twin is as it was, but for the weights that were trained."""
        for name, path in self.paths.items():
            self.module.set_submodule(path, self.originals[name])
        for gate in self.gates:
            gate.replace_all_uses_with(cast("fx.Node", gate.args[0]))
            self.module.graph.erase_node(gate)
            self.module.delete_submodule(str(gate.target))
        self.module.delete_submodule(_PRESENCES)
        self.module.recompile()

    def _presence(self, group: ChannelGroup) -> Presence:
        at = [g.name for g in self.row.groups].index(group.name)
        return cast("Presence", self.presences.groups[at])

    def _mixed(self, layer: nn.Module, bits: Sequence[int]) -> Mixed:
        full = cast("WeightKind", layer.weight_kind).bits
        plain, widths = plain_layer(layer), dict.fromkeys(min(b, full) for b in bits if b)
        options = [
            layer if b == full else quantized_layer(plain, kind_of(b, per_channel=True))
            for b in widths
        ]
        axis = 1 if isinstance(layer, nn.modules.conv._ConvTransposeNd) else 0
        outputs = cast("Tensor", layer.weight).shape[axis]
        return Mixed(options, Bits(tuple(widths), outputs), axis)

    def _presences(self, least: Mapping[str, int]) -> Presences:
        found = []
        for group in self.row.groups:
            makers = [(self.mixed[n].bits, outputs) for n, outputs in self._makers(group).items()]
            found.append(Presence(group.width, least.get(group.name, 1), makers))
        return Presences(found)

    def _makers(self, group: ChannelGroup) -> dict[str, Tensor]:
        """The nodes whose outputs these channels are, with the outputs of each channel."""
        places = {(m.tensor, m.axis): torch.from_numpy(m.positions) for m in group.members}
        nodes = (self.nodes[name] for name in self.mixed)
        found = {n.name: places.get((n.inputs[1].name, output_axis(n))) for n in nodes}
        return {name: outputs for name, outputs in found.items() if outputs is not None}

    def _place_gates(self, graph: gs.Graph) -> list[fx.Node]:
        layers, gates = _calls(self.module, "call_module"), list[fx.Node]()
        products = _calls(self.module, "call_function")
        for node in graph.nodes:
            if (found := summed_input(node)) is None:
                continue
            at, axis = found
            if (index := self.row.of_activation(node.inputs[at].name, axis)) is not None:
                layer = layers.get(node.name)
                place = (products[node.name], at) if layer is None else (layer, 0)
                gates.append(self._gate(*place, torch.from_numpy(index), axis, len(gates)))
        return gates

    def _gate(self, reader: fx.Node, at: int, index: Tensor, axis: int, number: int) -> fx.Node:
        self.module.add_submodule(f"{_GATE}{number}", Gate(self.presences, index, axis))
        source = cast("fx.Node", reader.args[at])
        with self.module.graph.inserting_before(reader):
            gate = self.module.graph.call_module(f"{_GATE}{number}", (source,))
        gate.meta |= {"tensor": "", "node": ""}
        reader.update_arg(at, gate)
        return gate


def _options(layer: Mixed) -> tuple[int, ...]:
    return tuple(cast("WeightKind", option.weight_kind).bits for option in layer.options)


def _paths(module: fx.GraphModule, graph: gs.Graph) -> dict[str, str]:
    """The quantised layers whose weight is nobody else's, by node."""
    quantized = {path for path, _ in module.meta["quantized_weights"].values()}
    readers = Counter(t.name for n in graph.nodes for t in n.inputs if isinstance(t, gs.Constant))
    paths = {node: str(call.target) for node, call in _calls(module, "call_module").items()}
    return {
        node.name: paths[node.name]
        for node in graph.nodes
        if paths.get(node.name) in quantized and readers[node.inputs[1].name] == 1
    }


def _calls(module: fx.GraphModule, kind: str) -> dict[str, fx.Node]:
    """The first call of that kind for each ONNX node: BatchNorm behind it is a second one."""
    found = [n for n in module.graph.nodes if n.op == kind and n.meta["node"]]
    return {n.meta["node"]: n for n in reversed(found)}
