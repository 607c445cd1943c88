"""Repair without training: least squares, layer by layer, against the original's own outputs.

He et al. 2017 (Channel Pruning, section 3.2), fed by the network as it is already slim, so that
every layer also absorbs what earlier cuts did. A layer whose output is only added to something
aims at the sum: the original's sum minus the slim network's other term.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
import torch
from torch import Tensor, fx

from hwprune.graph.channels import Coupling, Keep
from hwprune.graph.cost import largest_tensor_bytes, macs
from hwprune.network import linear
from hwprune.network.fork import Tail, Values
from hwprune.network.run import Data, inputs_of
from hwprune.network.twin import initializers, to_module, write_back
from hwprune.pruning.damage import additions, changed, damaged, give_biases
from hwprune.pruning.leastsquares import refit


@dataclass(frozen=True, slots=True)
class Sampling:
    """How much of the calibration data a repair looks at, per layer and in all.

    `rows_per_column` sampled positions for every unknown of a least squares, within
    `least_rows` and `most_rows`. As many samples as keep the largest activation under
    `activation_bytes` and one pass over them under `macs`. `ridge` holds the old weights: the
    fewer the samples, the less their positions tell.
    """

    rows_per_column: int
    least_rows: int
    most_rows: int
    activation_bytes: int
    macs: float
    ridge: float


QUICK = Sampling(8, 6000, 16384, 1 << 28, 1e12, 0.2)  # for one of many candidates
LIGHT = Sampling(16, 12000, 32768, 1 << 28, 1.5e11, 0.1)  # for a network that loses nothing
THOROUGH = Sampling(48, 24000, 65536, 1 << 28, 4e11, 0.05)  # for one of the best few
FINAL = Sampling(96, 48000, 131072, 1 << 29, 6e11, 0.05)  # for the network that is kept


@dataclass(frozen=True, slots=True)
class Target:
    """What the original says about one layer: rows x channels of its output and of the sums it
    is a term of (by the name of the Add), at flat positions `index`.
    """

    index: Tensor
    output: Tensor
    sums: dict[str, Tensor]


class Reference:
    """The original's sampled outputs: computed once, used for every candidate."""

    def __init__(
        self,
        graph: gs.Graph,
        coupling: Coupling,
        x: Data,
        seed: int = 0,
        sampling: Sampling = QUICK,
    ) -> None:
        """Runs the original over `x`, unlabelled samples; `seed` decides the positions."""
        self.coupling = coupling
        self.nodes = {node.name: node for node in graph.nodes}
        self.ridge = sampling.ridge
        room = sampling.activation_bytes // largest_tensor_bytes(graph)
        count = min(room, int(sampling.macs / max(1, macs(graph))))
        self.x = inputs_of(x, max(1, count))
        sampler = _Sampler(graph, seed, sampling)
        with torch.inference_mode():
            sampler.run(*self.x)
        self.targets: Mapping[str, Target] = sampler.targets

    def reconstruct(self, slimmed: gs.Graph, keep: Keep, values: Values | None = None) -> None:
        """Refits the weights of a slim version of the original, in place.

        Layers whose input is untouched stay as they are; a layer keeps its old weights if new
        ones are no better on held-back rows. `values` are what the slim version reads of the
        unchanged original on `self.x`, if they are known (`hwprune.network.fork`).
        """
        todo = damaged(self.nodes, slimmed) & self.targets.keys()
        if not todo:
            return
        begins = changed(self.nodes, slimmed)
        give_biases(slimmed, todo)
        twin = to_module(slimmed)
        repair = _Repair(twin, slimmed, self, todo, keep)
        with torch.no_grad():
            if values is None:
                repair.run(*self.x)
            else:
                Tail(twin, begins).run(repair, values)
        write_back(twin, slimmed)


class _Sampler(fx.Interpreter):
    """Runs the original once and keeps sampled rows of every layer's output and sums."""

    def __init__(self, graph: gs.Graph, seed: int, sampling: Sampling) -> None:
        super().__init__(to_module(graph))
        self.sampling = sampling
        self.generator = torch.Generator().manual_seed(seed)
        self.targets: dict[str, Target] = {}
        nodes = {node.name: node for node in graph.nodes}
        self.layers = linear.layers(self.module)
        self.terms: dict[str, list[str]] = {}  # Add -> layers
        for name in self.layers:
            for add in additions(nodes[name]):
                self.terms.setdefault(add.name, []).append(name)

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        name = n.meta["node"]
        if n.op == "call_module" and name in self.layers:
            self._begin(name, value)
        elif n.meta["tensor"]:
            for term in self.terms.get(name, ()):
                self._add_sum(term, name, value)
        return value

    def _begin(self, name: str, output: Tensor) -> None:
        layer = self.layers[name]
        count = linear.positions(layer, output)
        wanted = self.sampling.rows_per_column * linear.columns(layer)
        rows = min(max(wanted, self.sampling.least_rows), self.sampling.most_rows)
        index = torch.randperm(count, generator=self.generator)[:rows]
        self.targets[name] = Target(index, linear.output_rows(layer, output, index), {})

    def _add_sum(self, name: str, add: str, value: Tensor) -> None:
        target, layer = self.targets[name], self.layers[name]
        if value.shape[linear.channel_axis(layer)] == target.output.shape[1]:
            target.sums[add] = linear.output_rows(layer, value, target.index)


class _Repair(fx.Interpreter):
    """Runs the slim twin; each damaged layer is refitted just before it computes."""

    def __init__(
        self,
        twin: fx.GraphModule,
        graph: gs.Graph,
        reference: Reference,
        todo: set[str],
        keep: Keep,
    ) -> None:
        super().__init__(twin)
        self.reference, self.todo, self.keep = reference, todo, keep
        self.layers = linear.layers(twin)
        self.nodes = {node.name: node for node in graph.nodes}
        self.makers = {n.meta["tensor"]: n for n in twin.graph.nodes if n.meta["tensor"]}
        self.constants = {name: path for path, (name, _) in initializers(twin).items()}

    def run_node(self, n: fx.Node) -> Any:
        name = n.meta["node"]
        if n.op == "call_module" and name in self.todo and name in self.layers:
            (x, *_), _ = self.fetch_args_kwargs_from_env(n)
            self._refit(name, self.layers[name], x)
        return super().run_node(n)

    def _refit(self, name: str, layer: linear.Layer, x: Tensor) -> None:
        target = self.reference.targets[name]
        output = self.reference.nodes[name].outputs[0]
        axis = linear.channel_axis(layer) % len(output.shape)
        kept = self.reference.coupling.kept(output.name, axis, self.keep)
        stays = np.arange(target.output.shape[1]) if kept is None else kept
        if len(stays) != layer.weight.shape[0]:
            return
        wanted, bias = self._aim(name, layer, target, torch.as_tensor(stays))
        split = linear.groups(layer)
        rows = linear.input_rows(layer, x, target.index)
        found = refit(
            rows,
            wanted.reshape(len(wanted), split, -1).movedim(1, 0),
            linear.weight_matrix(layer),
            None if bias is None else bias.detach().reshape(split, -1),
            self.reference.ridge,
        )
        if found is None:
            return
        layer.weight.copy_(found[0].reshape(layer.weight.shape))
        if bias is not None and found[1] is not None:
            bias.copy_(found[1].reshape(bias.shape))

    def _aim(
        self, name: str, layer: linear.Layer, target: Target, stays: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """What the layer should yield, rows x outputs, and the bias that belongs to it."""
        wanted, bias = target.output[:, stays], layer.bias
        taken = torch.zeros(())
        tensor = self.nodes[name].outputs[0]
        for add in additions(self.nodes[name]):
            other = next((t for t in add.inputs if t is not tensor), tensor)
            rows = self._rows(layer, other, target.index)
            if add.name not in target.sums or rows is None:
                break
            if bias is None and isinstance(other, gs.Constant) and len(other.outputs) == 1:
                bias = self._constant(other)  # MatMul and its Add are one layer
            else:
                taken = taken + rows
            wanted = target.sums[add.name][:, stays]
            tensor = add.outputs[0]
        return wanted - taken, bias

    def _rows(self, layer: linear.Layer, tensor: gs.Tensor, index: Tensor) -> Tensor | None:
        """The other term of a sum at these positions; None while it is not known."""
        outputs = layer.weight.shape[0]
        if isinstance(tensor, gs.Constant):
            bias = self._constant(tensor)
            along = bias.shape[linear.channel_axis(layer) :] if bias.ndim > 1 else bias.shape
            fits = bias.numel() == outputs == along[0]
            return bias.detach().reshape(1, -1) if fits else None
        value: Tensor | None = self.env.get(self.makers[tensor.name])
        if value is None or value.shape[linear.channel_axis(layer)] != outputs:
            return None
        return linear.output_rows(layer, value, index)

    def _constant(self, tensor: gs.Constant) -> Tensor:
        value: Tensor = self.module.state_dict(keep_vars=True)[self.constants[tensor.name]]
        return value
