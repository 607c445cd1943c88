"""Networks that read tokens, or several inputs: an .npz with an array for each."""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from hwprune.errors import DataError
from hwprune.frontend.dataset import DataSet
from hwprune.frontend.sources import shape_text

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Input:
    """One input of a network.

    Attributes:
        name: as in the graph.
        shape: static, batch first.
        dtype: of its values.
        below: what its values index has this many entries; None where they are no indices.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    below: int | None = None


def inputs_of_graph(graph: gs.Graph) -> tuple[Input, ...]:
    """The inputs of a canonical graph, in order."""
    return tuple(
        Input(t.name, tuple(map(int, t.shape)), np.dtype(t.dtype), _below(t)) for t in graph.inputs
    )


def is_plain(inputs: Sequence[Input]) -> bool:
    """Whether the network reads one tensor of real numbers, as images are."""
    return len(inputs) == 1 and np.issubdtype(inputs[0].dtype, np.floating)


def read_arrays(path: Path, inputs: Sequence[Input], classes: int | None) -> DataSet:
    """An array for every input by its name (`x` serves a single one) and, with labels, `y`.

    Raises DataError: what is missing or does not fit, and what would.
    """
    wanted = "an .npz with the arrays " + ", ".join(map(_described, inputs)) + " (and labels y)"
    if not path.is_file() or not zipfile.is_zipfile(path):
        raise DataError(f"data {path}: this network reads {wanted}", "save one by numpy.savez")
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = {name: archive[name] for name in archive}
    except (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        message = f"data {path}: not a readable .npz file: {error}"
        raise DataError(message, f"give {wanted}") from error
    if len(inputs) == 1 and "x" in found:
        found.setdefault(inputs[0].name, found["x"])
    if missing := [i.name for i in inputs if i.name not in found]:
        raise DataError(f"data {path}: there is no array {missing[0]!r}", f"give {wanted}")
    first, *more = (_fitted(found[i.name], i, str(path)) for i in inputs)
    lengths = {i.name: len(found[i.name]) for i in inputs}
    if len(set(lengths.values())) != 1:
        raise DataError(f"data {path}: the arrays differ in length: {lengths}")
    return DataSet(first, _labels(found.get("y"), len(first), classes, path), more=tuple(more))


def made_up(inputs: Sequence[Input], count: int, seed: int) -> DataSet:
    """Standard normal values, indices at random, ones for everything else (masks)."""
    rng = np.random.default_rng(seed)
    first, *more = (_random(i, count, rng) for i in inputs)
    return DataSet(first, more=tuple(more))


def _random(given: Input, count: int, rng: np.random.Generator) -> Array:
    shape = (count, *given.shape[1:])
    if np.issubdtype(given.dtype, np.floating):
        return rng.standard_normal(shape, np.float32)
    if given.below is None:
        return np.ones(shape, given.dtype)
    return rng.integers(0, given.below, shape).astype(given.dtype)


def _fitted(values: Array, given: Input, source: str) -> Array:
    real = np.issubdtype(given.dtype, np.floating)
    kinds = "f" if real else "iub"
    if values.shape[1:] != given.shape[1:] or values.dtype.kind not in kinds or not len(values):
        got = f"{values.dtype} {shape_text(values.shape)}"
        raise DataError(f"data {source}: {given.name!r} is {got}, not {_described(given)}")
    if real and not np.isfinite(values).all():
        raise DataError(f"data {source}: {given.name!r} holds NaN or infinite values")
    if given.below is not None and (values.min() < 0 or values.max() >= given.below):
        raise DataError(
            f"data {source}: {given.name!r} runs from {values.min()} to {values.max()}, "
            f"the network knows 0 to {given.below - 1}"
        )
    return values.astype(np.float32 if real else given.dtype, copy=False)


def _labels(y: Array | None, count: int, classes: int | None, path: Path) -> Array | None:
    if y is None:
        return None
    known = classes is None or not len(y) or (y.min() >= 0 and y.max() < classes)
    if y.shape != (count,) or not np.issubdtype(y.dtype, np.integer) or not known:
        raise DataError(
            f"data {path}: y must hold one class per sample, for {count} samples"
            + ("" if classes is None else f", from 0 to {classes - 1}")
        )
    return y.astype(np.int64)


def _described(given: Input) -> str:
    return f"{given.name} ({given.dtype}, {shape_text(('N', *given.shape[1:]))})"


def _below(tensor: gs.Tensor) -> int | None:
    """The shortest table that the values of an integer input are looked up in."""
    if np.issubdtype(np.dtype(tensor.dtype), np.floating):
        return None
    sizes = [
        int(node.inputs[0].shape[node.attrs.get("axis", 0)])
        for node in tensor.outputs
        if node.op == "Gather" and len(node.inputs) > 1 and node.inputs[1] is tensor
    ]
    return min(sizes, default=None)
