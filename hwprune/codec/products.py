"""Weights as matrices, and the rows that they are multiplied with.

A wide matrix is seen as several side by side, each of at most 1,024 columns, that have nothing to
do with one another: what is known of them then stays small beside the weights.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwprune.codec.weights import Values, Weight

_WIDEST = 1024  # columns


def is_product(weight: Weight) -> bool:
    """Whether it is known what each of its columns is multiplied with."""
    operator = weight.reader.op_type
    if operator == "Conv":
        return True
    plain = len(weight.shape) == 2 and not weight.attributes.get("transA", 0)
    return operator in {"Gemm", "MatMul"} and plain


def matrix(weight: Weight, values: NDArray[Any]) -> NDArray[Any]:
    """The values of a product as groups x outputs x columns."""
    if weight.reader.op_type == "Conv":
        apart = groups(weight)
        return _split(values.reshape(apart, values.shape[0] // apart, -1), places(weight))
    whole = values[None, :, :, 0]
    return _split(whole if _outputs_first(weight) else whole.swapaxes(1, 2))


def from_matrix(weight: Weight, found: NDArray[Any]) -> NDArray[Any]:
    """The counterpart of `matrix`."""
    own, (_, outputs, columns) = groups(weight), found.shape
    apart = found.reshape(own, -1, outputs, columns).swapaxes(1, 2)
    whole = apart.reshape(own, outputs, -1)
    ordered = whole if _outputs_first(weight) else whole.swapaxes(1, 2)
    return np.ascontiguousarray(ordered).reshape(weight.values.shape)


def _split(whole: NDArray[Any], places: int = 1) -> NDArray[Any]:
    """Groups x rows x columns with few enough columns, and more groups; kernels are not cut."""
    groups, rows, columns = whole.shape
    inputs = columns // places
    parts = next(
        n
        for n in range(1, inputs + 1)
        if inputs % n == 0 and (columns <= n * _WIDEST or n == inputs)
    )
    apart = whole.reshape(groups, rows, parts, columns // parts).swapaxes(1, 2)
    return np.ascontiguousarray(apart).reshape(groups * parts, rows, columns // parts)


def groups(weight: Weight) -> int:
    """Of a convolution; otherwise 1."""
    return int(weight.attributes.get("group", 1)) if weight.reader.op_type == "Conv" else 1


def places(weight: Weight) -> int:
    """How many columns, one behind the other, read the same input."""
    return int(weight.values.shape[2])


def outputs_axis(weight: Weight) -> int:
    """Which axis of a product's values its outputs are."""
    return 0 if _outputs_first(weight) else 1


def _outputs_first(weight: Weight) -> bool:
    return weight.reader.op_type == "Conv" or bool(weight.attributes.get("transB", 0))


def multiplications(weight: Weight, x: NDArray[Any]) -> int:
    """About how many a weight takes part in when it reads x, N x ... ."""
    if not weight.reader.op_type.startswith("Conv"):
        return x.size // int(x.shape[-1]) * int(weight.values.size)
    steps = 1 if weight.reader.op_type == "ConvTranspose" else prod(_strides(weight))
    return len(x) * prod(x.shape[2:]) // steps * int(weight.values.size)


def _strides(weight: Weight) -> list[int]:
    """Of a convolution."""
    return list(weight.attributes.get("strides", [1] * (len(weight.shape) - 2)))


def input_rows(weight: Weight, x: NDArray[Any], most: int, rng: np.random.Generator) -> Values:
    """Some of the rows that a weight's matrix is multiplied with, groups x rows x columns."""
    if weight.reader.op_type != "Conv":
        rows = x.reshape(-1, x.shape[-1]).astype(np.float32)
        picked = rng.permutation(len(rows))[:most]
        return _split(rows[np.sort(picked)][None])
    patches = _patches(weight, x.astype(np.float32), most, rng)
    return _split(patches, places(weight))


def _patches(weight: Weight, x: Values, most: int, rng: np.random.Generator) -> Values:
    attributes = weight.attributes
    kernel = [int(k) for k in attributes["kernel_shape"]]
    spatial = len(kernel)
    strides = _strides(weight)
    dilations = attributes.get("dilations", [1] * spatial)
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
    pads = _pads(attributes, x.shape[2:], spans, strides)
    padded = np.pad(x, [(0, 0), (0, 0), *pads])
    windows = np.lib.stride_tricks.sliding_window_view(padded, spans, tuple(range(2, 2 + spatial)))
    every: list[Any] = [slice(None, None, step) for step in (1, 1, *strides, *dilations)]
    windows = windows[tuple(every)]
    return _sampled(windows, groups(weight), spatial, most, rng)


def _sampled(
    windows: Values, groups: int, spatial: int, most: int, rng: np.random.Generator
) -> Values:
    """Patches at some positions; windows are samples x channels x positions x kernel."""
    positions = (windows.shape[0], *windows.shape[2 : 2 + spatial])
    columns = windows.shape[1] // groups * int(np.prod(windows.shape[2 + spatial :]))
    picked = rng.permutation(int(np.prod(positions)))[:most]
    sample, *where = np.unravel_index(np.sort(picked), positions)
    patches = np.moveaxis(windows, 1, 1 + spatial)[(sample, *where)]  # rows x channels x kernel
    split = patches.reshape(len(picked), groups, columns)
    return np.ascontiguousarray(split.transpose(1, 0, 2))


def _pads(
    attributes: dict[str, Any], sizes: Sequence[int], spans: Sequence[int], strides: Sequence[int]
) -> list[tuple[int, int]]:
    """Zeros in front and behind, for each spatial axis."""
    mode = attributes.get("auto_pad", b"NOTSET").decode()
    if mode == "VALID" or (mode == "NOTSET" and "pads" not in attributes):
        return [(0, 0)] * len(sizes)
    if mode == "NOTSET":
        pads = attributes["pads"]
        return [
            (int(a), int(b)) for a, b in zip(pads[: len(sizes)], pads[len(sizes) :], strict=True)
        ]
    missing = [
        max((-(-n // s) - 1) * s + span - n, 0)
        for n, s, span in zip(sizes, strides, spans, strict=True)
    ]
    ends = [(m // 2, m - m // 2) for m in missing]
    return ends if mode == "SAME_UPPER" else [(b, a) for a, b in ends]
