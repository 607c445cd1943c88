from collections.abc import Callable

import onnx_graphsurgeon as gs
import pytest
import torch
from torch import fx

from hwprune.backend import Capabilities
from hwprune.network.run import inputs_of
from hwprune.network.twin import to_module
from hwprune.quantize.calibrate import whole_ranges
from hwprune.quantize.instrument import instrument
from hwprune.quantize.kinds import WeightKind, activation_bits
from hwprune.quantize.placement import Placement, place, products

Instrumented = Callable[..., fx.GraphModule]

INT8 = frozenset({"int8"})


@pytest.fixture(scope="session")
def capabilities() -> Capabilities:
    ops = ("Conv", "Gemm", "MatMul", "Add", "Concat", "GlobalAveragePool")
    return Capabilities(
        precisions=dict.fromkeys(ops, INT8),
        activations={"int8": frozenset({"Relu", "Clip"})},
        residual_fused=frozenset(),
        passthrough=frozenset({"MaxPool", "Reshape", "Transpose", "Flatten"}),
    )


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """The networks are so small that a second thread only gets in the way."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def images() -> torch.Tensor:
    return torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="session")
def instrumented(capabilities: Capabilities, images: torch.Tensor) -> Instrumented:
    """A network with whole ranges and weights of one kind; everything quantised unless told."""

    def make(
        graph: gs.Graph,
        name: str = "max",
        bits: int = 8,
        granularity: str = "channel",
        placement: Placement | None = None,
    ) -> fx.GraphModule:
        everything = {node.name: "int8" for node in graph.nodes}
        placement = placement or place(graph, everything, capabilities)
        ranges = whole_ranges(to_module(graph), inputs_of(images), placement.encoded)
        kind = WeightKind(name, bits, granularity)
        kinds = {node.name: kind for node in products(graph, placement)}
        tensors = activation_bits(graph, placement)
        return instrument(graph, placement, ranges, kinds, tensors)

    return make
