"""What a kernel costs on the null target: a call, its products in steps, its bytes."""

from math import ceil, prod

from hwprune.backend import Kernel

QUANTISED = (
    "Conv", "Gemm", "MatMul", "Add", "Mul", "Concat", "GlobalAveragePool", "AveragePool",
    "MaxPool", "Reshape", "Transpose", "Flatten",
)  # fmt: skip
BLOCK = 16  # fp32: output channels come in blocks
ALIGNMENT = 4  # int8: channel counts off this multiple are slow
_MISALIGNED = 1.5
_CALL_NS = {"fp32": 2_000.0, "int8": 3_000.0}
_PRODUCTS_PER_NS = {"fp32": 20.0, "int8": 60.0}
_BYTES_PER_NS = 10.0
_ELEMENT_BYTES = {"fp32": 4, "int8": 1}
_BOUNDARY_BYTES = 5  # QuantizeLinear and DequantizeLinear: one side fp32, the other uint8
_BOUNDARIES = {"QuantizeLinear", "DequantizeLinear"}


def kernel_ns(kernel: Kernel) -> float:
    """Nanoseconds of one kernel; activations folded behind it cost nothing."""
    return _CALL_NS[_kind(kernel)] + _arithmetic_ns(kernel) + _traffic_ns(kernel)


def _arithmetic_ns(kernel: Kernel) -> float:
    found = _products(kernel)
    if not found:
        return 0.0
    products, channels_in, channels_out = found
    if kernel.precision == "fp32":
        products *= ceil(channels_out / BLOCK) * BLOCK / channels_out
    elif channels_in % ALIGNMENT or channels_out % ALIGNMENT:
        products *= _MISALIGNED
    return products / _PRODUCTS_PER_NS[_kind(kernel)]


def _kind(kernel: Kernel) -> str:
    """What products that round for themselves cost is what int8 costs."""
    return "fp32" if kernel.precision == "fp32" else "int8"


def _products(kernel: Kernel) -> tuple[float, int, int] | None:
    """Multiplications, channels in and channels out of an operator with a weight."""
    if len(kernel.inputs) < 2 or 0 in kernel.output:
        return None
    data, weight = kernel.inputs[:2]
    if kernel.op == "Conv":
        return prod(kernel.output) * prod(weight[1:]), data[1], kernel.output[1]
    if kernel.op == "ConvTranspose":
        return prod(data) * prod(weight[1:]), data[1], kernel.output[1]
    if kernel.op in ("Gemm", "MatMul"):
        return prod(kernel.output) * data[-1], data[-1], kernel.output[-1]
    return None


def _traffic_ns(kernel: Kernel) -> float:
    if kernel.op in _BOUNDARIES:
        return _BOUNDARY_BYTES * prod(kernel.output) / _BYTES_PER_NS
    elements = sum(prod(s) for s in kernel.inputs) + prod(kernel.output)
    return _ELEMENT_BYTES[_kind(kernel)] * elements / _BYTES_PER_NS
