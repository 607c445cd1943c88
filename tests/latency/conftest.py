"""A target's statements for tests that need none of its kernels."""

import pytest

from hwprune.backend import Capabilities, Layouts


@pytest.fixture(scope="session")
def capabilities() -> Capabilities:
    """Of a target like a CPU: int8 convolutions, residuals fused in fp32, blocked layout."""
    return Capabilities(
        precisions={
            op: frozenset({"int8"})
            for op in ("Conv", "Gemm", "Add", "GlobalAveragePool", "Flatten")
        },
        activations={"fp32": frozenset({"Relu"}), "int8": frozenset({"Relu"})},
        residual_fused=frozenset({"fp32"}),
        passthrough=frozenset({"Flatten"}),
        layouts=Layouts(8, 4, frozenset({"Conv", "Add", "GlobalAveragePool"})),
    )
