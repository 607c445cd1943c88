"""Micro-models: ONNX nodes that onnxruntime turns into exactly the kernel asked for.

Everything that belongs to a kernel is named `k<index>/...`, which survives the optimiser (fused
nodes keep the name of their head or of their output); what only leads up to it is not. Weights are
declared, not stored: the process that runs the model makes them up.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from hwprune.backends.cpu.layout import DOMAIN, LEAST
from hwprune.backends.cpu.matrices import add_matrix
from hwprune.backends.cpu.model import CONTRIB, MicroModel
from numpy.typing import NDArray
from onnx import TensorProto

from hwprune.backend import Kernel, Shape
from hwprune.precision import of_matrices

LAST = '"last"'  # the attribute `layout` of a kernel whose tensors have channels last
BLOCKED = '"blocked"'  # and of one whose tensors have channels in blocks
_WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "LayerNormalization", "BatchNormalization"}
_WEIGHTED |= {"PRelu", "InstanceNormalization", "GroupNormalization"}
_SHAPE_ONLY = {"Reshape", "Expand", "Squeeze", "Unsqueeze", "Flatten"}
_BOUNDARY = {"QuantizeLinear", "DequantizeLinear", "ReorderInput", "ReorderOutput"}
_GLOBAL_POOLS = {"GlobalAveragePool", "GlobalMaxPool"}
_BIASED = {"Conv", "ConvTranspose", "Gemm"}
_SCALE = 6 / 255  # of every activation: Clip(0, 6) then covers the whole range of uint8


def build(kernels: Sequence[tuple[str, Kernel]], block: int) -> MicroModel:
    """One model of all kernels, each under its own name prefix; `block` channels in a block."""
    model = MicroModel(block=block)
    for prefix, kernel in kernels:
        model.prefix = prefix
        add(model, kernel)
    return model


def add(model: MicroModel, kernel: Kernel) -> None:
    """Adds one kernel to the model in the form that the runtime fuses into it.

    An operator that cannot be built from its signature fails when the session is created; the
    caller then times `stand_in` instead.
    """
    if kernel.op in _BOUNDARY:
        _add_boundary(model, kernel)
    elif kernel.op in _SHAPE_ONLY:
        _add_reshape(model, kernel)
    elif kernel.op == "Transpose" and kernel.precision == "int8":
        _add_transpose(model, kernel)
    elif ("layout", LAST) in kernel.attributes:
        _add_channels_last(model, kernel)
    elif ("layout", BLOCKED) in kernel.attributes and kernel.op != "Conv":
        _add_in_blocks(model, kernel)
    elif kernel.precision == "int8":
        _add_int8(model, kernel)
    elif of_matrices(kernel.precision):
        add_matrix(model, kernel)
    else:
        _add_fp32(model, kernel)


def stand_in(kernel: Kernel) -> Kernel:
    """An elementwise kernel over the same output: what an operator we cannot build is priced at."""
    return Kernel("Relu", "fp32", (kernel.output,), kernel.output)


def _add_fp32(model: MicroModel, kernel: Kernel) -> None:
    operands = [
        model.input(shape) if is_activation(kernel, i) else model.weight(shape)
        for i, shape in enumerate(_operands(kernel))
    ]
    if kernel.op in _GLOBAL_POOLS:  # at the rim it would be computed in blocks
        operands = model.node("Neg", operands, prefix="lead/")
    found = _apply(model, kernel, operands)
    if "Add" in kernel.fused:
        found = model.node("Add", [found[0], _residual(model, kernel)])
    model.result(_activate(model, kernel, found), kernel.output)


def _add_int8(model: MicroModel, kernel: Kernel) -> None:
    operands = []
    for i, shape in enumerate(_operands(kernel)):
        if is_activation(kernel, i):
            source = model.input(shape, TensorProto.UINT8)
            operands += _dequantize(model, source, _SCALE, np.uint8(128))
        else:
            operands.append(_quantized_constant(model, kernel, i, shape))
    found = _activate(model, kernel, _apply(model, kernel, operands))
    # Zero point 0 is how a ReLU disappears into the quantisation behind it.
    zero = np.uint8(0 if kernel.fused else 128)
    quantized = [_quantize(model, tensor, _SCALE, zero) for tensor in found]
    model.result(quantized, kernel.output, TensorProto.UINT8)


def _add_transpose(model: MicroModel, kernel: Kernel) -> None:
    source = model.input(kernel.inputs[0], TensorProto.UINT8)
    found = model.node("Transpose", [source], perm=json.loads(dict(kernel.attributes)["perm"]))
    model.result(found, kernel.output, TensorProto.UINT8)


def _add_channels_last(model: MicroModel, kernel: Kernel) -> None:
    """What the runtime makes of a pool or Concat between int8 convolutions; shapes are N C H W."""
    attributes = _attributes(kernel)
    sources = [model.input(_last(s), TensorProto.UINT8) for s in kernel.inputs]
    scale, zero = _encoding(model, _SCALE, np.uint8(128))
    if kernel.op == "Concat":
        operands = [scale, zero, *(name for s in sources for name in (s, scale, zero))]
        found = model.node("QLinearConcat", operands, domain=CONTRIB, axis=3)
    elif kernel.op == "MaxPool":
        found = model.node("NhwcMaxPool", sources, domain=CONTRIB, **attributes)
    else:
        operands = [*sources, scale, zero, scale, zero]
        name = f"QLinear{kernel.op}"
        found = model.node(name, operands, domain=CONTRIB, channels_last=1, **attributes)
    model.result(found, _last(kernel.output), TensorProto.UINT8)


def _add_in_blocks(model: MicroModel, kernel: Kernel) -> None:
    """What the runtime makes of a pool behind a convolution; convolutions find their form alone."""
    sources = [model.input(shape) for shape in kernel.inputs]
    found = model.node(kernel.op, sources, domain=DOMAIN, **_attributes(kernel))
    model.result(found, kernel.output)


def _attributes(kernel: Kernel) -> dict[str, Any]:
    """Of the operator itself."""
    return {k: json.loads(v) for k, v in kernel.attributes if ":" not in k and k != "layout"}


def _last(shape: Shape) -> Shape:
    return shape[0], *shape[2:], shape[1]


def _add_boundary(model: MicroModel, kernel: Kernel) -> None:
    shape = kernel.inputs[0]
    if kernel.op == "QuantizeLinear":
        found = _quantize(model, model.input(shape), _SCALE, np.uint8(128))
        model.result([found], shape, TensorProto.UINT8)
    elif kernel.op == "DequantizeLinear":
        source = model.input(shape, TensorProto.UINT8)
        model.result(_dequantize(model, source, _SCALE, np.uint8(128)), shape)
    else:
        channels = -(-shape[1] // model.block) * model.block
        padded = (shape[0], channels, *shape[2:])
        if kernel.op == "ReorderOutput":
            found_all = model.node(
                kernel.op, [model.input(padded)], domain=DOMAIN, channels=shape[1]
            )
            model.result(found_all, shape)
        else:
            narrow = (shape[0], -(-shape[1] // LEAST) * LEAST, *shape[2:])
            model.result(model.node(kernel.op, [model.input(narrow)], domain=DOMAIN), padded)


def _add_reshape(model: MicroModel, kernel: Kernel) -> None:
    """Between two other nodes, where the runtime does it in place; at the rim it would copy."""
    before = model.node("Neg", [model.input(kernel.inputs[0])], prefix="lead/")
    if kernel.op == "Flatten":
        behind = model.node("Flatten", before, **_attributes(kernel))
    else:
        shape = model.constant(np.array(kernel.output, dtype=np.int64))
        op = "Expand" if kernel.op == "Expand" else "Reshape"
        behind = model.node(op, [*before, shape])
    model.result(model.node("Neg", behind, prefix="lead/"), kernel.output)


def _residual(model: MicroModel, kernel: Kernel) -> str:
    """The other operand of a fused Add, in the layout of the convolution: else nothing fuses."""
    if kernel.op == "MatMul":
        return model.weight(kernel.inputs[-1])
    shape, channels = kernel.inputs[-1], kernel.inputs[0][1]
    if len(shape) != 4 or (channels >= model.block and channels % LEAST):
        return model.input(shape)
    narrow = model.input((shape[0], LEAST, *shape[2:]))
    weights = model.weight((shape[1], LEAST, 1, 1))
    return model.node("Conv", [narrow, weights], prefix="lead/", kernel_shape=[1, 1])[0]


def _operands(kernel: Kernel) -> tuple[Shape, ...]:
    return kernel.inputs[:-1] if "Add" in kernel.fused else kernel.inputs


def is_activation(kernel: Kernel, index: int) -> bool:
    """Whether input `index` is computed at run time; the others are initializers."""
    if index == 0:
        return True
    if kernel.op in _WEIGHTED:
        return False
    if kernel.op == "MatMul":
        return len(kernel.inputs[1]) > 2
    return kernel.op == "Concat" or len(kernel.inputs[index]) == len(kernel.output)


def _apply(model: MicroModel, kernel: Kernel, operands: list[str]) -> list[str]:
    """The operator itself, its steering inputs (`const:<index>`) put where they belong."""
    attributes = _attributes(kernel)
    steering = {int(k[6:]): json.loads(v) for k, v in kernel.attributes if k[:6] == "const:"}
    outputs = 1
    if kernel.op == "Split":
        lengths = steering.get(1) or attributes.pop("split", None)
        outputs = len(lengths) if lengths else int(attributes.setdefault("num_outputs", 2))
        if lengths:
            steering[1] = lengths
            attributes.pop("num_outputs", None)
    if kernel.op.startswith("Reduce") and "axes" in attributes:
        steering[1] = attributes.pop("axes")
    if kernel.op == "Resize":  # by sizes: the scales are not part of the signature
        steering, operands = {3: list(kernel.output)}, operands[:1]
    return model.node(kernel.op, _merge(model, operands, steering), outputs, **attributes)


def _merge(model: MicroModel, operands: list[str], steering: dict[int, Any]) -> list[str]:
    waiting = list(operands)
    inputs: list[str] = []
    while waiting or any(i >= len(inputs) for i in steering):
        index = len(inputs)
        if index in steering:
            inputs.append(model.constant(_steer(steering[index])))
        else:
            inputs.append(waiting.pop(0) if waiting else "")
    return inputs


def _steer(value: Any) -> NDArray[Any]:
    array = np.array(value)
    return array.astype(np.float32 if array.dtype.kind == "f" else array.dtype)


def _activate(model: MicroModel, kernel: Kernel, tensors: list[str]) -> list[str]:
    for op in kernel.fused:
        if op == "Add":
            continue
        own = {k[len(op) + 1 :]: json.loads(v) for k, v in kernel.attributes if k.startswith(op)}
        attributes = {k: v for k, v in own.items() if ":" not in k}
        bounds = {int(k[6:]): v for k, v in own.items() if k.startswith("const:")}
        if op == "Clip" and not bounds:
            bounds = {1: 0.0, 2: 6.0}
        floats = {i: float(v) for i, v in bounds.items()}
        tensors = model.node(op, _merge(model, tensors[:1], floats), **attributes)
    return tensors


def _quantized_constant(model: MicroModel, kernel: Kernel, index: int, shape: Shape) -> str:
    if kernel.op in _BIASED and index == 2:
        scales = np.full(shape, _SCALE * 0.01, np.float32)
        bias = model.constant(np.ones(shape, np.int32))
        return _dequantize(model, bias, scales, np.zeros(shape, np.int32), axis=0)[0]
    axis = _channel_axis(kernel)
    scales, zeros = np.full(shape[axis], 0.01, np.float32), np.zeros(shape[axis], np.int8)
    return _dequantize(model, model.weight(shape, "int8"), scales, zeros, axis=axis)[0]


def _channel_axis(kernel: Kernel) -> int:
    """The axis of the weight that holds output channels."""
    if kernel.op == "Gemm":
        return 0 if ("transB", "1") in kernel.attributes else 1
    return {"MatMul": 1, "ConvTranspose": 1}.get(kernel.op, 0)


def _quantize(model: MicroModel, tensor: str, scale: float, zero: NDArray[Any] | np.uint8) -> str:
    return model.node("QuantizeLinear", [tensor, *_encoding(model, scale, zero)])[0]


def _dequantize(
    model: MicroModel,
    tensor: str,
    scale: float | NDArray[np.float32],
    zero: NDArray[Any] | np.uint8,
    **axis: int,
) -> list[str]:
    return model.node("DequantizeLinear", [tensor, *_encoding(model, scale, zero)], **axis)


def _encoding(
    model: MicroModel, scale: float | NDArray[np.float32], zero: NDArray[Any] | np.uint8
) -> list[str]:
    return [
        model.constant(np.asarray(scale, dtype=np.float32)),
        model.constant(np.asarray(zero)),
    ]
