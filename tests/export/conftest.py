import pytest
import torch
from hwprune.backends.cpu import CpuBackend

from hwprune.backend import Capabilities

INT8 = frozenset({"int8"})
PASSTHROUGH = ("MaxPool", "Reshape", "Transpose", "Flatten")
COMPUTED = ("Conv", "Gemm", "MatMul", "Add", "Mul", "Concat", "GlobalAveragePool", "AveragePool")


@pytest.fixture(scope="session")
def capabilities() -> Capabilities:
    """What onnxruntime's CPU provider computes on integers, without saturating on this machine."""
    return Capabilities(
        precisions=dict.fromkeys((*COMPUTED, *PASSTHROUGH), INT8),
        activations={"int8": frozenset({"Relu", "Clip"})},
        residual_fused=frozenset(),
        passthrough=frozenset(PASSTHROUGH),
        weight_bits=CpuBackend().capabilities().weight_bits,
    )


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """The networks are so small that a second thread only gets in the way."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def images() -> torch.Tensor:
    return torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))
