"""What onnxruntime's CPU kernels can do: each statement is checked against optimised graphs."""

from hwprune.backends.cpu.layout import LEAST
from hwprune.backends.cpu.options import RuntimeOptions

from hwprune.backend import Capabilities, Layouts

_INT8 = frozenset({"int8"})
_NONE: frozenset[str] = frozenset()
_QUANTISED = (
    "Conv", "Gemm", "MatMul", "Add", "Mul", "Concat", "GlobalAveragePool", "AveragePool",
    "MaxPool", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze",
)  # fmt: skip
_PASSTHROUGH = {"MaxPool", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze"}
_FLOAT_ACTIVATIONS = {"Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid"}
# They vanish into the quantisation behind when its range ends at their bounds.
_INT8_ACTIVATIONS = {"Relu", "Clip"}
_BLOCKED = {"Conv", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"}
_BLOCKED |= {"Add", "Mul", "Relu", "Sigmoid", "Tanh", "Concat", "BatchNormalization"}
_EITHER = {"Add", "Mul", "Concat", "MaxPool", "AveragePool", "GlobalAveragePool"}


def capabilities(options: RuntimeOptions, block: int, vnni: bool) -> Capabilities:
    """Of a machine whose blocks hold `block` channels; `vnni`: u8 x s8 products do not saturate.

    Quantised kernels and fused activations are of the "extended" optimisations; blocks, channels
    last and fused residuals of "all".
    """
    fuses = options.graph in ("all", "extended")
    everything = options.graph == "all"
    return Capabilities(
        precisions=dict.fromkeys(_QUANTISED, _INT8) if fuses else {},
        activations={
            "fp32": frozenset(_FLOAT_ACTIVATIONS) if fuses else _NONE,
            "int8": frozenset(_INT8_ACTIVATIONS) if fuses else _NONE,
        },
        residual_fused=frozenset({"fp32"}) if everything else _NONE,
        passthrough=frozenset(_PASSTHROUGH) if fuses else _NONE,
        layouts=_layouts(block) if everything else Layouts(),
        weight_bits=8 if vnni else 7,
        bias_fused=frozenset({"fp32"}) if options.graph != "disable" else _NONE,
    )


def _layouts(block: int) -> Layouts:
    blocked = frozenset(_BLOCKED) if block > 1 else _NONE
    return Layouts(block, LEAST, blocked, frozenset({"Conv"}), frozenset(_EITHER))
