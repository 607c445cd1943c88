"""What a target's kernels can do, as a table: the rules that lowering follows."""

from collections.abc import Iterator

from hwprune.backend import Capabilities
from hwprune.precision import FP32, INT8

LOWERING_HEAD = ("operator", "kernels", "fused behind", "integers")


def lowering_rows(able: Capabilities) -> Iterator[tuple[str, str, str, str]]:
    """Per operator: kernels beyond fp32, what fuses behind each, what becomes of integers."""
    for op in sorted({*able.precisions, *able.passthrough}):
        kernels = sorted(able.precisions.get(op, ()), key=lambda k: (k != INT8, k))
        yield op, ", ".join(kernels) or "-", _fused(op, able), _integers(op, able)


def lowering_notes(able: Capabilities) -> Iterator[str]:
    """What holds for all of them."""
    scales = "every output channel has a scale" if able.per_channel else "a tensor has one scale"
    yield f"int8 weights: {able.weight_bits} bits, {scales}; fewer bits are storage alone"
    for precision, names in able.activations.items():
        if names:
            yield f"{precision} activations that fuse: {', '.join(sorted(names))}"
    layouts = able.layouts
    if layouts.block > 1:
        yield f"fp32 in blocks of {layouts.block} channels: {', '.join(sorted(layouts.blocked))}"
    if layouts.channels_last:
        yield f"int8 with channels last: {', '.join(sorted(layouts.channels_last))}"


def _fused(op: str, able: Capabilities) -> str:
    found: dict[str, list[str]] = {FP32: [], INT8: []}
    for precision, behind in found.items():
        if op in ("Conv", "Gemm") and able.activations.get(precision):
            behind.append("activation")
        if op == "Conv" and precision in able.residual_fused:
            behind.append("Add")
    said = [f"{precision} + {' + '.join(behind)}" for precision, behind in found.items() if behind]
    if op == "MatMul" and able.bias_fused:
        said.append("bias, but for int8" if INT8 not in able.bias_fused else "bias")
    return ", ".join(said) or "-"


def _integers(op: str, able: Capabilities) -> str:
    if op in able.passthrough:
        return "scale of its input, free"
    return "scale of its own" if INT8 in able.precisions.get(op, ()) else "-"
