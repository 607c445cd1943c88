"""A small network with a residual stream, and random images that it is to answer as it did."""

from collections.abc import Callable

import numpy as np
import onnx_graphsurgeon as gs
import pytest
import torch
from torch import nn

from hwprune.backend import Capabilities
from hwprune.differentiable.mixed import Mixture
from hwprune.frontend.dataset import DataSet
from hwprune.frontend.module import graph_from_module
from hwprune.graph.channels import Coupling
from hwprune.graph.coupling import couple
from hwprune.quantize.ptq import quantize

INT8 = frozenset({"int8"})


class Small(nn.Module):
    """Two layers share a stream of 16 channels; one inner layer of 40 has none to share."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, padding=1)
        self.wide = nn.Conv2d(16, 40, 3, padding=1)
        self.back = nn.Conv2d(40, 16, 3, padding=1)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.head = nn.Conv2d(16, 24, 3, stride=2)
        self.linear = nn.Linear(24, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).relu()
        x = (x + self.back(self.wide(x).relu())).relu()
        x = self.head(self.depthwise(x).relu()).relu().mean((2, 3))
        return torch.as_tensor(10 * self.linear(x))


@pytest.fixture(scope="session")
def original() -> gs.Graph:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return graph_from_module(Small(), (torch.zeros(1, 1, 9, 9),))


@pytest.fixture(scope="session")
def coupling(original: gs.Graph) -> Coupling:
    return couple(original)


@pytest.fixture(scope="session")
def data() -> DataSet:
    return DataSet(np.random.default_rng(0).normal(size=(600, 1, 9, 9)).astype(np.float32))


@pytest.fixture(scope="session")
def capabilities() -> Capabilities:
    computed = ("Conv", "Gemm", "MatMul", "Add", "GlobalAveragePool", "Flatten")
    return Capabilities(
        precisions=dict.fromkeys(computed, INT8),
        activations={"int8": frozenset({"Relu"})},
        residual_fused=frozenset(),
        passthrough=frozenset({"Flatten"}),
    )


@pytest.fixture(scope="session")
def kernels(original: gs.Graph) -> dict[str, str]:
    """Everything on integers."""
    return {node.name: "int8" for node in original.nodes}


@pytest.fixture(scope="session")
def mixture(
    original: gs.Graph,
    coupling: Coupling,
    capabilities: Capabilities,
    data: DataSet,
    kernels: dict[str, str],
) -> Callable[[], Mixture]:
    """Makes one anew, of all options."""

    def made() -> Mixture:
        quantized = quantize(original, kernels, capabilities, data.x[:64])
        return Mixture(quantized.module, quantized.graph, coupling, (0, 2, 4, 8))

    return made
