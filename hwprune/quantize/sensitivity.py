"""What each int8 kernel costs in quality, alone: the search's estimate, made in seconds."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import onnx_graphsurgeon as gs
import torch
from torch import Tensor, fx

from hwprune.backend import Capabilities
from hwprune.network.fork import Tail, fork
from hwprune.network.run import Data, as_loss, batches, is_classifier, kl, outputs
from hwprune.network.twin import to_module
from hwprune.quantize.calibrate import whole_ranges
from hwprune.quantize.instrument import instrument
from hwprune.quantize.kinds import weight_kinds
from hwprune.quantize.placement import Placement, place
from hwprune.quantize.samples import affordable

_RUNS = 60  # forward passes spent; larger networks are estimated in blocks of nodes
_VALUES = 6e7  # activations of one pass


@torch.no_grad()
def sensitivity(
    graph: gs.Graph, kernels: Mapping[str, str], capabilities: Capabilities, x: Data
) -> dict[str, float]:
    """The loss when one node computes in int8 and all others in fp32.

    Args:
        graph: Canonical graph.
        kernels: The nodes with "int8" are tried; those that cannot run in int8 lose nothing.
        capabilities: Of the target.
        x: `N x ...`; of it the first 64 samples are used, fewer (but 8) for a large network.

    Returns:
        Per node: mean KL divergence in nats for a classifier (one `N x classes` output), else
        noise power over signal power. A block of nodes shares its loss evenly.
    """
    x = affordable(graph, x, _VALUES, least=8, most=64)
    everything = place(graph, kernels, capabilities)
    twin = to_module(graph)
    ranges = whole_ranges(twin, x, everything.encoded)
    quantized = instrument(graph, everything, ranges, weight_kinds(graph, everything, capabilities))
    reference = outputs(twin, x)
    found = {name: 0.0 for name, kernel in kernels.items() if kernel == "int8"}
    names = [node.name for node in graph.nodes if node.name in everything.nodes]
    blocks = list(_blocks(names))
    alone = [place(graph, dict.fromkeys(block, "int8"), capabilities) for block in blocks]
    tails = [Tail(twin, _begin(twin, placement)) for placement in alone]
    for i, values in fork(twin, batches(twin, x), [tail.needs for tail in tails]):
        rounded = _Alone(twin, quantized, alone[i], everything)
        answer = tails[i].answers(rounded, values)
        found |= dict.fromkeys(blocks[i], _loss(reference, answer) / len(blocks[i]))
    return found


def _begin(twin: fx.GraphModule, alone: Placement) -> set[str]:
    """The nodes that compute or are rounded otherwise than in fp32."""
    rounded = {n.meta["node"] for n in twin.graph.nodes if n.meta["tensor"] in alone.made}
    return rounded | alone.nodes


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


def _blocks(names: list[str]) -> Iterator[list[str]]:
    size = -(-len(names) // _RUNS)
    return (names[start : start + size] for start in range(0, len(names), size or 1))


def _loss(reference: Sequence[Tensor], answer: Sequence[Tensor]) -> float:
    if is_classifier(reference):
        return as_loss(kl(reference[0], answer[0]))
    ratios = [
        float((a - r).square().sum() / r.square().sum().clamp_min(1e-30))
        for r, a in zip(reference, answer, strict=True)
    ]
    return as_loss(sum(ratios) / len(ratios))
