"""Kernels of products that round for themselves, in the very operators that a file holds."""

from hwprune.backends.cpu.model import CONTRIB, MicroModel

from hwprune.backend import Kernel
from hwprune.precision import Blockwise, blockwise

_INT8_LEVEL = 4  # accuracy level of MatMulNBits: activations in int8


def add_matrix(model: MicroModel, kernel: Kernel) -> None:
    """A Gemm or MatMul with a matrix of few bits; what else it reads is its bias."""
    inner, outputs = kernel.inputs[0][-1], kernel.output[-1]
    data = model.input(kernel.inputs[0])
    bias = ["", model.weight((outputs,))] if len(kernel.inputs) > 2 else []
    kind = blockwise(kernel.precision)
    if kind is None:
        weight = [model.weight((inner, outputs), "int8"), model.weight((outputs,))]
        found = model.node("DynamicQuantizeMatMul", [data, *weight, *bias], domain=CONTRIB)
    else:
        weight = _blocks(model, kind, inner, outputs)
        form = {"K": inner, "N": outputs, "bits": kind.bits, "block_size": kind.block}
        form |= {"accuracy_level": _INT8_LEVEL}
        found = model.node("MatMulNBits", [data, *weight, *bias], domain=CONTRIB, **form)
    model.result(found, kernel.output)


def _blocks(model: MicroModel, kind: Blockwise, inner: int, outputs: int) -> list[str]:
    """Weight, scales and zero points."""
    blocks = kind.blocks(inner)
    zeros = -(-blocks * kind.bits // 8)
    return [
        model.weight((outputs, blocks, kind.block * kind.bits // 8), "uint8"),
        model.weight((outputs * blocks,)),
        model.weight((outputs * zeros,), "uint8"),
    ]
