"""Kernels of every kind the compiler asks a target about, small enough to time in a moment."""

import json
from math import prod

from hwprune.backend import Kernel, Shape

IMAGE: Shape = (1, 16, 12, 12)


def conv(
    precision: str = "fp32",
    channels: tuple[int, int] = (16, 16),
    size: int = 12,
    fused: tuple[str, ...] = (),
) -> Kernel:
    """A 3x3 convolution with `channels` in and out; "Add" in `fused` brings its residual."""
    inputs, outputs = channels
    output = (1, outputs, size, size)
    shapes: tuple[Shape, ...] = ((1, inputs, size, size), (outputs, inputs, 3, 3), (outputs,))
    shapes += (output,) if "Add" in fused else ()
    attributes = named(
        dilations=[1, 1], group=1, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[1, 1]
    )
    return Kernel("Conv", precision, shapes, output, attributes, fused)


def example(op: str, precision: str = "fp32") -> Kernel:
    """A kernel of this operator; one the table below does not know is taken as elementwise."""
    if op == "Conv":
        return conv(precision)
    inputs, output, attributes = _EXAMPLES.get(op, ((IMAGE,), IMAGE, {}))
    return Kernel(op, precision, inputs, output, named(**attributes))


def named(**attributes: object) -> tuple[tuple[str, str], ...]:
    """Attributes as a kernel carries them."""
    return tuple(
        (name, json.dumps(value, separators=(",", ":")))
        for name, value in sorted(attributes.items())
    )


_POOLED: Shape = (1, 16, 6, 6)
_FLAT: Shape = (1, prod(IMAGE))
_POOLING: dict[str, object] = {"kernel_shape": [2, 2], "strides": [2, 2]}
_EXAMPLES: dict[str, tuple[tuple[Shape, ...], Shape, dict[str, object]]] = {
    "ConvTranspose": (
        (IMAGE, (16, 8, 2, 2), (8,)), (1, 8, 24, 24), {"kernel_shape": [2, 2], "strides": [2, 2]},
    ),
    "Gemm": (((1, 64), (24, 64), (24,)), (1, 24), {"transB": 1}),
    "MatMul": (((1, 8, 64), (64, 24)), (1, 8, 24), {}),
    "Add": ((IMAGE, IMAGE), IMAGE, {}),
    "Mul": ((IMAGE, IMAGE), IMAGE, {}),
    "Sub": ((IMAGE, IMAGE), IMAGE, {}),
    "Div": ((IMAGE, IMAGE), IMAGE, {}),
    "Concat": ((IMAGE, IMAGE), (1, 32, 12, 12), {"axis": 1}),
    "MaxPool": ((IMAGE,), _POOLED, _POOLING),
    "AveragePool": ((IMAGE,), _POOLED, _POOLING),
    "GlobalAveragePool": ((IMAGE,), (1, 16, 1, 1), {}),
    "GlobalMaxPool": ((IMAGE,), (1, 16, 1, 1), {}),
    "Flatten": ((IMAGE,), _FLAT, {"axis": 1}),
    "Reshape": ((IMAGE,), _FLAT, {}),
    "Squeeze": (((1, 16, 1, 1),), (1, 16), {}),
    "Unsqueeze": (((1, 16),), (1, 16, 1, 1), {}),
    "Expand": (((1, 16, 1, 1),), IMAGE, {}),
    "Transpose": ((IMAGE,), (1, 12, 16, 12), {"perm": [0, 2, 1, 3]}),
    "LayerNormalization": (((1, 8, 64), (64,), (64,)), (1, 8, 64), {"axis": -1}),
    "BatchNormalization": ((IMAGE, (16,), (16,), (16,), (16,)), IMAGE, {}),
    "ReduceMean": ((IMAGE,), (1, 16, 1, 1), {"axes": [2, 3], "keepdims": 1}),
    "Softmax": (((1, 64),), (1, 64), {"axis": -1}),
    "Clip": ((IMAGE,), IMAGE, {"const:1": 0.0, "const:2": 6.0}),
    "Slice": (
        (IMAGE,), _POOLED,
        {"const:1": [0, 0], "const:2": [12, 12], "const:3": [2, 3], "const:4": [2, 2]},
    ),
    "Pad": ((IMAGE,), (1, 24, 12, 12), {"const:1": [0, 4, 0, 0, 0, 4, 0, 0]}),
    "Split": ((IMAGE,), (1, 8, 12, 12), {"axis": 1, "const:1": [8, 8]}),
    "Gather": (((1, 8, 64),), (1, 64), {"axis": 1, "const:1": 0}),
    "Resize": ((IMAGE,), (1, 16, 24, 24), {"mode": "nearest"}),
}  # fmt: skip
