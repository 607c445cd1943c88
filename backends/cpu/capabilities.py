"""What onnxruntime's CPU kernels can do: each statement is checked against optimised graphs."""

from hwprune.backends.cpu.layout import LEAST
from hwprune.backends.cpu.options import RuntimeOptions

from hwprune.backend import Capabilities, Layouts
from hwprune.precision import DYNAMIC_INT8

_INT8 = frozenset({"int8"})
_NONE: frozenset[str] = frozenset()
_QUANTISED = (
    "Conv", "Gemm", "MatMul", "Add", "Mul", "Concat", "GlobalAveragePool", "AveragePool",
    "MaxPool", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze",
)  # fmt: skip
# Products that round for themselves. Blocks of 32 keep more quality, larger ones are faster; with
# 8 bits quality does not ask. Two bits have a kernel where VNNI is (64 and 128 values a block).
_OF_MATRICES = frozenset({DYNAMIC_INT8, "nbits-4/32", "nbits-4/128", "nbits-8/128"})
_TWO_BITS = frozenset({"nbits-2/128"})
_PASSTHROUGH = {"MaxPool", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze"}
_MOVED = _PASSTHROUGH - {"Flatten"}
_FLOAT_ACTIVATIONS = {"Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid"}
# They vanish into the quantisation behind when its range ends at their bounds.
_INT8_ACTIVATIONS = {"Relu", "Clip"}
_BLOCKED = {"Conv", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"}
_BLOCKED |= {"Add", "Mul", "Relu", "Sigmoid", "Tanh", "Concat", "BatchNormalization"}
_EITHER = {"Add", "Mul", "Concat", "MaxPool", "AveragePool", "GlobalAveragePool"}
_CARRIED = {
    "Abs", "Add", "Clip", "Concat", "Div", "Elu", "Exp", "HardSigmoid", "LeakyRelu", "Mul", "Neg",
    "PRelu", "Pad", "Relu", "Sigmoid", "Slice", "Sub", "Tanh",
}  # fmt: skip


def capabilities(options: RuntimeOptions, block: int, vnni: bool) -> Capabilities:
    """Of a machine whose blocks hold `block` channels; `vnni`: u8 x s8 products do not saturate.

    Kernels between quantisations and fused activations are of the "extended" optimisations; blocks,
    channels last and fused residuals of "all". What rounds for itself is written as it runs.
    """
    fuses = options.graph in ("all", "extended")
    of_matrices = _OF_MATRICES | (_TWO_BITS if vnni else _NONE)
    everything = options.graph == "all"
    return Capabilities(
        precisions=_precisions(of_matrices, fuses),
        activations={
            "fp32": frozenset(_FLOAT_ACTIVATIONS) if fuses else _NONE,
            "int8": frozenset(_INT8_ACTIVATIONS) if fuses else _NONE,
        },
        residual_fused=frozenset({"fp32"}) if everything else _NONE,
        passthrough=frozenset(_PASSTHROUGH) if fuses else _NONE,
        layouts=_layouts(block) if everything else Layouts(),
        weight_bits=8 if vnni else 7,
        bias_fused=of_matrices | (frozenset({"fp32"}) if options.graph != "disable" else _NONE),
        moved=frozenset(_MOVED) if fuses else _NONE,
    )


def _precisions(of_matrices: frozenset[str], fuses: bool) -> dict[str, frozenset[str]]:
    found = dict.fromkeys(_QUANTISED, _INT8) if fuses else {}
    return found | {op: found.get(op, _NONE) | of_matrices for op in ("Gemm", "MatMul")}


def _layouts(block: int) -> Layouts:
    blocked = frozenset(_BLOCKED) if block > 1 else _NONE
    return Layouts(
        block, LEAST, blocked, frozenset({"Conv"}), frozenset(_EITHER), frozenset(_CARRIED)
    )
