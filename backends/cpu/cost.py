"""Rough expectations, used only to group kernels and to repeat short ones; never as a latency."""

from math import prod

from hwprune.backend import Kernel

_WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul"}


def size_bytes(kernel: Kernel) -> int:
    """Memory of all inputs and the output."""
    width = 1 if kernel.precision == "int8" else 4
    return width * (sum(prod(s) for s in kernel.inputs) + prod(kernel.output))


def expected_ns(kernel: Kernel) -> float:
    """2 us a call, 30 products and 10 bytes a nanosecond."""
    products = 0
    if kernel.op in _WEIGHTED and len(kernel.inputs) > 1:
        weight = kernel.inputs[1]
        taps = prod(weight[1:]) if kernel.op == "Conv" else kernel.inputs[0][-1]
        products = prod(kernel.output) * taps
    return 2_000 + products / 30 + size_bytes(kernel) / 10
