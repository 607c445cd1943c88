"""Weights of so few values that ONNX itself holds them in few bytes: a dial from fine to coarse."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from hwprune.codec.dials import common_factor
from hwprune.codec.products import from_matrix, matrix
from hwprune.codec.rate import Packed
from hwprune.codec.skeleton import elements, holes
from hwprune.codec.weights import Values, Weight, tensors
from hwprune.export.compact import compact
from hwprune.quantize.formulas import least_error
from hwprune.quantize.gptq import Inverse, gptq

_HIGHEST = (1, 2, 3, 5, 7, 15, 31, 63, 127)  # of integers on both sides of zero


@dataclass(frozen=True)
class FewLevels:
    """Float weights as integers times a scale of their tensor, the fewer the coarser.

    Attributes:
        model: Serialised.
        weights: Of it; those of integers stay as they are.
        steps: For each weight, at factor 1; it gets as few levels as have steps no larger.
        known: Of what weights are multiplied with, where it is known.
    """

    model: bytes
    weights: Sequence[Weight]
    steps: Mapping[int, float]
    known: Mapping[int, Inverse] = field(default_factory=dict)

    def at(self, coarseness: float) -> Packed:
        """The ONNX file whose steps are multiplied by 2^-7 (0) to 2^4 (1)."""
        factor = common_factor(coarseness)
        found = {
            w.name: self._rounded(w, factor * self.steps[w.index])
            for w in self.weights
            if w.grid is None
        }
        file = compact(exchanged(onnx.load_from_string(self.model), found)).SerializeToString()
        return Packed(file, self._elements, plain=True)

    def _rounded(self, weight: Weight, step: float) -> Values:
        scales = self._scales[weight.index]
        highest = next((h for h, scale in scales.items() if scale <= step), _HIGHEST[-1])
        scale = scales[highest]
        known = self.known.get(weight.index)
        if known is None:
            numbers = np.clip(np.rint(weight.values / np.float32(scale)), -highest, highest)
        else:
            numbers = _for_output(weight, scale, highest, known)
        values: Values = numbers.astype(np.float32) * np.float32(scale)
        return values

    @cached_property
    def _scales(self) -> dict[int, dict[int, float]]:
        """Per weight and highest integer the scale that errs least."""
        return {
            w.index: {h: _scale(w.values, h) for h in _HIGHEST}
            for w in self.weights
            if w.grid is None
        }

    @cached_property
    def _elements(self) -> int:
        return elements(holes(self.model))


def exchanged(model: onnx.ModelProto, values: Mapping[str, Values]) -> onnx.ModelProto:
    """The model itself, with other values in some initializers and Constant nodes, by name."""
    held = tensors(model)
    for name, array in values.items():
        tensor = held[name]
        kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        own = array.astype(kind).reshape(tuple(tensor.dims))
        tensor.CopyFrom(numpy_helper.from_array(own, tensor.name))
    return model


def _scale(values: Values, highest: int) -> float:
    row = torch.from_numpy(values.reshape(1, -1).copy())
    return max(float(least_error(row, highest)) / highest, 1e-30)


def _for_output(weight: Weight, scale: float, highest: int, known: Inverse) -> Values:
    def rounding(values: torch.Tensor) -> torch.Tensor:
        return (values / scale).round_().clamp_(-highest, highest).mul_(scale)

    whole = torch.from_numpy(matrix(weight, weight.values).copy())
    found = gptq(whole, known, rounding).numpy()
    numbers: Values = np.rint(from_matrix(weight, found) / np.float32(scale))
    return numbers
