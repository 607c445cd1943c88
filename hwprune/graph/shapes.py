"""Static shapes: binding the inputs' dynamic dimensions, then inferring everything else."""

from collections.abc import Container, Mapping

import onnx

from hwprune.errors import ModelError, UsageError
from hwprune.graph.weights import MAX_ELEMENTS

Shape = tuple[int, ...]
_WEIGHTS_ALONE = 4  # from this IR version on initializers need not be inputs


def bind_inputs(
    model: onnx.ModelProto, shapes: Mapping[str, Shape], batch: int, apart: Container[str] = ()
) -> None:
    """Makes every graph input's shape static, in place.

    Initializers listed as inputs (ONNX IR 3) are struck from the list first; those in `apart` are
    weights and stay as they are. A leading symbolic dimension is the batch if all else is static.

    Raises:
        UsageError: `shapes` names no input, contradicts one, or is missing for a dynamic one.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    listed = [value for value in model.graph.input if value.name not in weights]
    inputs = [value for value in listed if value.name not in apart]
    del model.graph.input[:]
    model.graph.input.extend([*inputs, *(value for value in listed if value.name in apart)])
    model.ir_version = max(model.ir_version, _WEIGHTS_ALONE)
    for name in shapes:
        if name not in {value.name for value in inputs}:
            raise UsageError(
                f"the model has no input {name!r}",
                f"its inputs are {', '.join(value.name for value in inputs)}",
            )
    for value in model.graph.input[: len(inputs)]:
        shape = _static(value, shapes.get(value.name), batch)
        value.type.tensor_type.shape.ClearField("dim")
        value.type.tensor_type.shape.dim.extend(
            onnx.TensorShapeProto.Dimension(dim_value=size) for size in shape
        )


def _static(value: onnx.ValueInfoProto, given: Shape | None, batch: int) -> Shape:
    declared = [d.dim_value if d.HasField("dim_value") else None for d in _dims(value)]
    if given is not None:
        known = declared if value.type.tensor_type.HasField("shape") else [None] * len(given)
        fits = len(given) == len(known) and all(
            size > 0 and fixed in (None, size) for size, fixed in zip(given, known, strict=True)
        )
        if not fits:
            raise UsageError(f"input {value.name!r} is {_text(value)}, not {_join(given)}")
        return given
    if declared and declared[0] is None:
        declared[0] = batch
    if not declared or any(size is None or size < 1 for size in declared):
        example = _join(tuple(size or 32 for size in declared) or (1, 3, 32, 32))
        raise UsageError(
            f"input {value.name!r} has a dynamic shape, {_text(value)}",
            f"give it: --shape {value.name}={example}",
        )
    if batch not in (1, declared[0]):
        raise UsageError(f"input {value.name!r} has a fixed batch of {declared[0]}, not {batch}")
    return tuple(size for size in declared if size is not None)


def infer(model: onnx.ModelProto) -> onnx.ModelProto:
    """Shapes of all tensors, from the inputs alone. Raises ModelError when they contradict.

    Without data propagation: it would fill a ConstantOfShape of any size a file asks for.
    """
    del model.graph.value_info[:]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        return onnx.shape_inference.infer_shapes(model, check_type=True)
    except onnx.shape_inference.InferenceError as error:
        raise ModelError(f"shapes contradict each other: {str(error).splitlines()[0]}") from error


def check_static(model: onnx.ModelProto) -> None:
    """Refuses tensors whose shape is unknown or too large. Raises ModelError."""
    known = {v.name: v for v in (*model.graph.value_info, *model.graph.output)}
    for node in model.graph.node:
        for name in (name for name in node.output if name):
            ranked = name in known and known[name].type.tensor_type.HasField("shape")
            dims = _dims(known[name]) if ranked else None
            if dims is None or not all(d.HasField("dim_value") for d in dims):
                raise ModelError(
                    f"the shape of {name!r}, output of {node.op_type} {node.name!r}, depends on "
                    "the data; only static shapes can be compiled",
                    "export the network without what comes after it (such as the choice of boxes), "
                    "or cut it in front of that node by onnx.utils.extract_model",
                )
            size = 1
            for dim in dims:
                size *= dim.dim_value
            if size > MAX_ELEMENTS:
                raise ModelError(f"tensor {name!r} would have {size} elements")


def _dims(value: onnx.ValueInfoProto) -> list[onnx.TensorShapeProto.Dimension]:
    return list(value.type.tensor_type.shape.dim)


def _text(value: onnx.ValueInfoProto) -> str:
    return "x".join(d.dim_param[:40] or str(d.dim_value or "?") for d in _dims(value)) or "unknown"


def _join(shape: Shape) -> str:
    return ",".join(map(str, shape))
