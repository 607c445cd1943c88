"""Rough expectations, used only to group kernels and to repeat short ones; never as a latency."""

from math import ceil, prod

from hwprune.backend import Kernel

_SHORT_NS = 30_000  # the profiler counts whole microseconds
_MOST_COPIES = 4
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


def copies(kernel: Kernel) -> int:
    """How often a kernel is put into a session, so that its sum is well above the clock's tick."""
    return max(1, min(_MOST_COPIES, ceil(_SHORT_NS / expected_ns(kernel))))
