"""The model that is packed, and the data that go with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from hwprune.errors import UnsupportedModelError, UsageError
from hwprune.frontend.arrays import Input
from hwprune.frontend.dataset import DataSet
from hwprune.frontend.split import Splits
from hwprune.report.schema import Quality
from hwprune.stages.pack_options import PackOptions
from hwprune.stages.quality import report_quality
from hwprune.stages.sources import SYNTHETIC, read_splits
from hwprune.verify.outputs import file_outputs

Outputs = list[torch.Tensor]
CALIBRATION = 256  # samples that weights are rounded for
_SYNTHETIC_BYTES, _LEAST = 64 << 20, 64  # of made-up samples, and how many there are at least


@dataclass(frozen=True, slots=True)
class Subject:
    """A serialised model, with data; `known` is False where they are synthetic."""

    data: bytes
    splits: Splits
    known: bool
    options: PackOptions

    def samples(self, count: int) -> tuple[NDArray[Any], ...]:
        """Inputs that weights are rounded for; labels are never looked at."""
        chosen = self.splits.train.take(count, self.options.seed)
        return chosen.inputs(slice(0, len(chosen)))

    def quality(self, model: bytes) -> Quality:
        """Of another file, on the evaluation data."""
        before, after = (self.outputs(m, self.splits.eval) for m in (self.data, model))
        return report_quality(before, after, self.splits.eval.y, self.known)

    def outputs(self, model: bytes, data: DataSet) -> Outputs:
        """Of a file, for each sample."""
        return file_outputs(model, data.inputs(slice(0, len(data))), self.options.threads)


def subject(data: bytes, options: PackOptions) -> Subject:
    """Reads the data that go with a model. Raises UsageError, DataError."""
    model = onnx.load_from_string(data)
    inputs, outputs = _inputs(model, options), model.graph.output
    if not inputs or not outputs:
        raise UnsupportedModelError(
            "the model has no inputs or no outputs to judge it by",
            "pack it without a bound: nothing is lost",
        )
    shape = _shape(outputs[0])
    labels = shape[1] if len(outputs) == 1 and len(shape) == 2 else None
    splits, known = read_splits(options.data, inputs, labels, synthetic=_synthetic(inputs))
    return Subject(data, splits, known, options)


def _synthetic(inputs: Sequence[Input]) -> int:
    """Samples to make up: no more than take little memory beside a network of their size."""
    each = sum(4 * prod(one.shape[1:]) for one in inputs)
    return min(max(_SYNTHETIC_BYTES // max(1, each), _LEAST), SYNTHETIC)


def _inputs(model: onnx.ModelProto, options: PackOptions) -> Sequence[Input]:
    """The inputs that no initializer fills. Raises UsageError where a shape is open."""
    filled = {t.name for t in model.graph.initializer}
    own = [value for value in model.graph.input if value.name not in filled]
    if unknown := options.shapes.keys() - {value.name for value in own}:
        raise UsageError(
            f"--shape names {min(unknown)!r}, which is no input",
            f"the inputs are {', '.join(value.name for value in own)}",
        )
    return [_input(value, options.shapes.get(value.name)) for value in own]


def _input(value: onnx.ValueInfoProto, given: tuple[int, ...] | None) -> Input:
    shape = given or _shape(value)
    shape = (shape[0] or 1, *shape[1:]) if shape else shape
    if not shape or 0 in shape:
        raise UsageError(
            f"the shape of input {value.name!r} is open",
            f"give it with --shape {value.name}=1,3,224,224",
        )
    dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    return Input(value.name, shape, np.dtype(dtype))


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    """Open axes are 0."""
    return tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
