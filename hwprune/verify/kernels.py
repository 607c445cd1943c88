"""Which kernels a written file really gets, read from the runtime's own optimised graph."""

from pathlib import Path

from hwprune.backend import Backend

_INTEGER = frozenset({"QLinearConv", "QGemm", "QLinearMatMul", "MatMulIntegerToFloat"})
_FLOAT = frozenset(
    {"Conv", "FusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul"}
)


def products(backend: Backend, model: Path) -> tuple[int, int]:
    """How many products of a file run on integers, and how many on floats.

    A product whose weights are not decoded when the session loads is fused with nothing and
    counts as one on floats. Raises BackendError.
    """
    found = [name.split()[-1] for name in backend.executed(model)]
    return sum(op in _INTEGER for op in found), sum(op in _FLOAT for op in found)
