"""Data sets as people have them: an .npz file, a folder of images, a factory, or digits."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from hwprune.errors import DataError
from hwprune.frontend import digits
from hwprune.frontend.arrays import Input, is_plain, read_arrays
from hwprune.frontend.dataset import DataSet
from hwprune.frontend.factory import is_factory
from hwprune.frontend.normalization import Normalization
from hwprune.frontend.sources import FORMS, from_factory, read_folder, read_npz, shape_text
from hwprune.frontend.split import Splits, split

_COLOURS = (1, 3, 4)

__all__ = ["DataSet", "Normalization", "Splits", "load_data", "load_inputs", "split"]


def load_data(
    spec: str,
    graph_input_shape: Sequence[int],
    normalization: Normalization | None = None,
    classes: int | None = None,
    limit: int | None = None,
) -> DataSet:
    """Loads and checks a data set.

    Args:
        spec: file.npz (`x`, and `y` where there are labels), a folder with one folder of images per
            class, package.module:factory of a torch Dataset, or "digits".
        graph_input_shape: of the network, batch first; images may have their channels last.
        normalization: of uint8 images; None is pixel / 255 (for digits: their own).
        classes: outputs of the network that labels must stay below.
        limit: most samples to keep, drawn with a fixed seed.

    Raises:
        DataError: what, where, why, and what to do.
    """
    shape = tuple(graph_input_shape)
    last = _reads_channels_last(shape)
    images = (shape[0], shape[3], shape[1], shape[2]) if last else shape
    data = _load(spec, images, normalization)
    if data.raw.dtype == np.uint8:
        data = replace(_fitted(data, images, spec), channels_last=last)
    else:
        data = _fitted(data, shape, spec)
    _check_labels(data, classes, spec)
    return data if limit is None else _limited(data, limit)


def load_inputs(
    spec: str,
    inputs: Sequence[Input],
    normalization: Normalization | None = None,
    classes: int | None = None,
) -> DataSet:
    """As `load_data`, for any network: tokens and several inputs come from an .npz."""
    if is_plain(inputs):
        return load_data(spec, inputs[0].shape, normalization, classes)
    return read_arrays(Path(spec), inputs, classes)


def _reads_channels_last(shape: tuple[int, ...]) -> bool:
    """Whether an input of this shape is an image as channels-last frameworks have it."""
    return len(shape) == 4 and shape[3] in _COLOURS and shape[1] not in _COLOURS


def _load(spec: str, shape: tuple[int, ...], normalization: Normalization | None) -> DataSet:
    path = Path(spec)
    if spec == "digits":
        if len(shape) != 4:
            raise DataError(f"digits are images, the network reads {shape_text(shape[1:])}")
        return digits.load_digits((shape[2], shape[3]), normalization or digits.NORMALIZATION)
    if path.is_dir():
        return read_folder(path, shape, normalization or Normalization())
    if is_factory(spec):
        return from_factory(spec, normalization or Normalization())
    if not path.is_file():
        raise DataError(
            f"data {spec!r}: there is no such file or folder",
            "give file.npz, a folder of class folders, package.module:factory, or digits",
        )
    return read_npz(path, normalization or Normalization())


def _fitted(data: DataSet, shape: tuple[int, ...], source: str) -> DataSet:
    """Checks samples against the network's input; one channel is repeated where it reads more."""
    if data.raw.ndim == len(shape) == 4 and _sample_shape(data)[0] == 1:
        data = data.repeated(shape[1])
    got = _sample_shape(data)
    if got != shape[1:]:
        raise DataError(
            f"data {source}: a sample is {shape_text(got)}, "
            f"the network reads {shape_text(shape[1:])}",
            f"x must be {FORMS}",
        )
    if data.raw.dtype == np.uint8:
        _check_channels(data.normalization, shape[1], source)
    return data


def _sample_shape(data: DataSet) -> tuple[int, ...]:
    """Of one sample as `batch` gives it, without its batch axis."""
    shape = data.raw.shape[1:]
    if data.raw.dtype != np.uint8 or len(shape) != 3:
        return shape
    return (shape[2], *(data.size or shape[:2]))


def _check_channels(normalization: Normalization, channels: int, source: str) -> None:
    for name, values in (("mean", normalization.mean), ("std", normalization.std)):
        if len(values) not in (1, channels):
            raise DataError(
                f"data {source}: the {name} has {len(values)} values for {channels} channels",
                f"give --{name} one value, or one per channel",
            )


def _check_labels(data: DataSet, classes: int | None, source: str) -> None:
    if data.y is None:
        return
    low, high = int(data.y.min()), int(data.y.max())
    if low < 0 or (classes is not None and high >= classes):
        allowed = "0 and above" if classes is None else f"0 to {classes - 1}"
        raise DataError(
            f"data {source}: labels run from {low} to {high}, the network's classes are {allowed}",
            "number the classes as the network was trained on them",
        )


def _limited(data: DataSet, limit: int) -> DataSet:
    """At most `limit` samples; parts that the source fixes shrink alike and stay apart."""
    if limit < 1:
        raise DataError(f"a limit of {limit} samples leaves nothing", "limit to 1 or more")
    if data.parts is None or limit >= len(data):
        return data.take(limit, seed=0)
    train, search, held_out = (max(1, part * limit // len(data)) for part in data.parts)
    starts = np.cumsum((0, *data.parts[:2]))
    rows = [np.arange(n) + s for n, s in zip((train, search, held_out), starts, strict=True)]
    return replace(data.select(np.concatenate(rows)), parts=(train, search, held_out))
