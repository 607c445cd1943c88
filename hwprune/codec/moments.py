"""Second moments of what each weight is multiplied with: what an error in it does to the output."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwprune.codec.probe import Probe
from hwprune.codec.weights import Values, Weight

Moment = NDArray[np.float32]  # groups x columns x columns
_MOST_COLUMNS = 4608
_ROWS = 32  # positions that are looked at for each column


def is_product(weight: Weight) -> bool:
    """Whether it is known what each of its columns is multiplied with."""
    operator = weight.reader.op_type
    if operator == "Conv":
        return True
    plain = len(weight.shape) == 2 and not weight.attributes.get("transA", 0)
    return operator in {"Gemm", "MatMul"} and plain


def matrix(weight: Weight, values: Values) -> Values:
    """The values of a product as groups x outputs x columns."""
    if weight.reader.op_type == "Conv":
        groups = int(weight.attributes.get("group", 1))
        return values.reshape(groups, values.shape[0] // groups, -1)
    return values[None, :, :, 0] if _outputs_first(weight) else values[None, :, :, 0].swapaxes(1, 2)


def from_matrix(weight: Weight, found: Values) -> Values:
    """The counterpart of `matrix`."""
    ordered = found if _outputs_first(weight) else found.swapaxes(1, 2)
    return np.ascontiguousarray(ordered).reshape(weight.values.shape)


def _outputs_first(weight: Weight) -> bool:
    return weight.reader.op_type == "Conv" or bool(weight.attributes.get("transB", 0))


def moments(probe: Probe, seed: int = 0) -> dict[int, Moment]:
    """E[x x'] of the columns of each weight, by the index of its hole.

    Left out are weights whose product is not known, and those of very many columns.
    """
    wanted = [w for w in probe.weights if is_product(w) and _columns(w) <= _MOST_COLUMNS]
    found: dict[int, Moment] = {}
    rng, share = np.random.default_rng(seed), np.float32(1 / probe.batches)
    for tensors in probe.read(list(dict.fromkeys(w.data for w in wanted))):
        for weight in wanted:
            count = -(-_ROWS * _columns(weight) // probe.batches)
            rows = input_rows(weight, tensors[weight.data], count, rng)
            moment: Moment = rows.swapaxes(1, 2) @ rows * (share / rows.shape[1])
            found[weight.index] = found[weight.index] + moment if weight.index in found else moment
    return found


def input_rows(weight: Weight, x: NDArray[Any], most: int, rng: np.random.Generator) -> Values:
    """Some of the rows that a weight's matrix is multiplied with, groups x rows x columns."""
    if weight.reader.op_type != "Conv":
        rows = x.reshape(-1, x.shape[-1]).astype(np.float32)
        picked = rng.permutation(len(rows))[:most]
        return rows[np.sort(picked)][None]
    return _patches(weight, x.astype(np.float32), most, rng)


def _patches(weight: Weight, x: Values, most: int, rng: np.random.Generator) -> Values:
    attributes = weight.attributes
    kernel = [int(k) for k in attributes["kernel_shape"]]
    spatial = len(kernel)
    strides = attributes.get("strides", [1] * spatial)
    dilations = attributes.get("dilations", [1] * spatial)
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
    pads = _pads(attributes, x.shape[2:], spans, strides)
    padded = np.pad(x, [(0, 0), (0, 0), *pads])
    windows = np.lib.stride_tricks.sliding_window_view(padded, spans, tuple(range(2, 2 + spatial)))
    every: list[Any] = [slice(None, None, step) for step in (1, 1, *strides, *dilations)]
    windows = windows[tuple(every)]
    return _sampled(windows, int(attributes.get("group", 1)), spatial, most, rng)


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


def _columns(weight: Weight) -> int:
    return int(matrix(weight, weight.values).shape[2])
