import pytest
import torch

from hwprune.backend import Capabilities

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
