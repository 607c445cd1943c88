"""What each kernel costs in quality, alone: the search's estimate, made in seconds."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import onnx_graphsurgeon as gs
import torch
from torch import Tensor, fx

from hwprune.backend import Capabilities
from hwprune.network.run import Data, Inputs
from hwprune.network.samples import affordable
from hwprune.network.twin import to_module
from hwprune.precision import FP32, INT8
from hwprune.quantize.calibrate import whole_ranges
from hwprune.quantize.instrument import instrument
from hwprune.quantize.kinds import activation_bits, weight_kinds
from hwprune.quantize.matrices import matrices, rounded_layers
from hwprune.quantize.placement import Placement, place
from hwprune.quantize.trials import Exchanged, Trial, blocks, losses

# Forward passes spent on nodes in int8, and on products that round for themselves; larger networks
# are estimated in blocks of nodes.
_RUNS, _MATRIX_RUNS = 60, 120
_VALUES = 6e7  # activations of one pass


@torch.no_grad()
def sensitivity(
    graph: gs.Graph, options: Mapping[str, Sequence[str]], capabilities: Capabilities, x: Data
) -> dict[str, dict[str, float]]:
    """The loss when one node computes in another kernel and all others in fp32.

    Args:
        graph: Canonical graph.
        options: Kernels per node; those that a node cannot run in lose nothing.
        capabilities: Of the target.
        x: `N x ...`; of it the first 64 samples are used, fewer (but 8) for a large network.

    Returns:
        Per node and kernel (fp32 left out): see `trials.losses`. A block of nodes shares its loss
        evenly.
    """
    x = affordable(graph, x, _VALUES, least=8, most=64)
    twin = to_module(graph)
    found = {n: {k: 0.0 for k in kernels if k != FP32} for n, kernels in options.items()}
    trials = [
        *_on_integers(graph, options, capabilities, twin, x),
        *_of_matrices(graph, options, capabilities, twin),
    ]
    for trial, loss in zip(trials, losses(twin, trials, x), strict=True):
        for node in trial.nodes:
            found[node][trial.form] = loss / len(trial.nodes)
    return found


def _on_integers(
    graph: gs.Graph,
    options: Mapping[str, Sequence[str]],
    capabilities: Capabilities,
    twin: fx.GraphModule,
    x: Inputs,
) -> Iterator[Trial]:
    """Blocks of nodes in int8, with the ranges that all of them together have."""
    able = {n: INT8 for n, kernels in options.items() if INT8 in kernels}
    everything = place(graph, able, capabilities)
    if not everything.nodes:
        return
    ranges = whole_ranges(twin, x, everything.encoded)
    kinds = weight_kinds(graph, everything, capabilities)
    quantized = instrument(graph, everything, ranges, kinds, activation_bits(graph, everything))
    names = [node.name for node in graph.nodes if node.name in everything.nodes]
    for block in blocks(names, _RUNS):
        alone = place(graph, dict.fromkeys(block, INT8), capabilities)
        run = partial(_Alone, twin, quantized, alone, everything)
        yield Trial(block, INT8, _begin(twin, alone), run)


def _of_matrices(
    graph: gs.Graph,
    options: Mapping[str, Sequence[str]],
    capabilities: Capabilities,
    twin: fx.GraphModule,
) -> Iterator[Trial]:
    """Blocks of products that round for themselves, kernel by kernel."""
    kernels = dict.fromkeys(k for found in options.values() for k in found)
    able = {k: {n: k for n, found in options.items() if k in found} for k in kernels}
    nodes = {k: list(matrices(graph, chosen, capabilities)) for k, chosen in able.items()}
    runs = _MATRIX_RUNS // max(1, sum(bool(found) for found in nodes.values()))

    def layers(chosen: Mapping[str, str]) -> fx.Interpreter:
        return Exchanged(twin, rounded_layers(twin, graph, chosen, capabilities))

    for kernel, names in nodes.items():
        for block in blocks(names, runs):
            chosen = dict.fromkeys(block, kernel)
            yield Trial(block, kernel, frozenset(block), partial(layers, chosen))


def _begin(twin: fx.GraphModule, alone: Placement) -> frozenset[str]:
    """The nodes that compute or are rounded otherwise than in fp32."""
    rounded = {n.meta["node"] for n in twin.graph.nodes if n.meta["tensor"] in alone.made}
    return frozenset(rounded | alone.nodes)


class _Alone(fx.Interpreter):
    """Runs the fp32 twin with the quantisers of a few nodes, taken from an instrumented twin."""

    def __init__(
        self, twin: fx.GraphModule, quantized: fx.GraphModule, alone: Placement, full: Placement
    ) -> None:
        super().__init__(twin)
        self.quantized = quantized
        self.alone = alone
        self.full = full

    def run_node(self, n: fx.Node) -> Any:
        if n.meta["node"] not in self.alone.nodes:
            return self._output(n, super().run_node(n))
        exact = {i: self.env[i] for i in n.all_input_nodes if i.meta["tensor"] in self.alone.read}
        self.env |= {i: self._rounded(i.meta["tensor"], value) for i, value in exact.items()}
        value = self._layer(n) if n.op == "call_module" else super().run_node(n)
        self.env |= exact
        return self._output(n, value)

    def _layer(self, n: fx.Node) -> Any:
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        return self.quantized.get_submodule(str(n.target))(*args, **kwargs)

    def _output(self, n: fx.Node, value: Any) -> Any:
        tensor = n.meta["tensor"]
        return self._rounded(tensor, value) if self.alone.made.get(tensor) == tensor else value

    def _rounded(self, tensor: str, value: Tensor) -> Tensor:
        path = self.quantized.meta["quantizers"][self.full.root(tensor)]
        rounded: Tensor = self.quantized.get_submodule(path)(value)
        return rounded
