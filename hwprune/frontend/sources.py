"""Readers of data sets: each gives a checked `DataSet`, or a DataError that says what is wrong."""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hwprune.errors import DataError
from hwprune.frontend.dataset import DataSet
from hwprune.frontend.factory import call_factory
from hwprune.frontend.normalization import Normalization

FORMS = "uint8 N x H x W x C, or float N x C x H x W as the network reads it"
_SAVE = f"save it with numpy.savez(path, x=..., y=...), x being {FORMS}"
_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff"})


def shape_text(shape: Sequence[object]) -> str:
    """A shape for people: 3 x 32 x 32."""
    return " x ".join(map(str, shape)) or "a single number"


def read_npz(path: Path, normalization: Normalization) -> DataSet:
    """Arrays `x` and, where there are labels, `y`; nothing in the file is ever executed."""
    if not zipfile.is_zipfile(path):
        raise DataError(f"data {path}: not a readable .npz file", _SAVE)
    try:
        with np.load(path, allow_pickle=False) as archive:
            if "x" not in archive:
                raise DataError(
                    f"data {path}: there is no array 'x', only {', '.join(archive) or 'nothing'}",
                    _SAVE,
                )
            return _checked(archive["x"], archive.get("y"), normalization, str(path))
    except (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile) as e:
        reason = str(e).splitlines()[0] if str(e) else type(e).__name__
        raise DataError(f"data {path}: not a readable .npz file: {reason}", _SAVE) from e


def read_folder(path: Path, shape: tuple[int, ...], normalization: Normalization) -> DataSet:
    """One folder of images per class, classes numbered by sorted name, resized to the network's."""
    if len(shape) != 4:
        raise DataError(f"data {path}: images, but the network reads {shape_text(shape[1:])}")
    names = sorted(p.name for p in path.iterdir() if p.is_dir())
    files = [
        (file, label)
        for label, name in enumerate(names)
        for file in sorted((path / name).rglob("*"))
        if file.suffix.lower() in _SUFFIXES
    ]
    if not files:
        raise DataError(
            f"data {path}: no images in {len(names)} class folders",
            "put the images of each class into a folder of its own below it",
        )
    x = np.stack([_read_image(file, shape) for file, _ in files])
    return DataSet(x, np.array([label for _, label in files], np.int64), normalization)


def _read_image(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """H x W x C, resized to the network's height and width."""
    _, channels, height, width = shape
    try:
        with Image.open(path) as image:
            mode = image.convert("L" if channels == 1 else "RGB")
            resized = mode.resize((width, height), Image.Resampling.BILINEAR)
    except (OSError, ValueError, Image.DecompressionBombError) as e:
        raise DataError(f"image {path} cannot be read: {e}", "remove or repair it") from e
    return np.asarray(resized, np.uint8).reshape(height, width, -1)


def from_factory(spec: str, normalization: Normalization) -> DataSet:
    """All items of a torch Dataset: (array, label) or array."""
    source: Any = call_factory(spec)
    if not (hasattr(source, "__len__") and hasattr(source, "__getitem__")):
        raise DataError(f"data {spec}: returned a {type(source).__name__}, not a Dataset")
    items = [source[i] for i in range(len(source))]
    labelled = bool(items) and isinstance(items[0], tuple | list)
    try:
        x = np.stack([np.asarray(item[0] if labelled else item) for item in items])
        y = np.array([int(item[1]) for item in items]) if labelled else None
    except (ValueError, TypeError, IndexError) as e:
        raise DataError(
            f"data {spec}: samples do not stack: {e}", "each must be an array, or (array, label)"
        ) from e
    return _checked(x, y, normalization, spec)


def _checked(
    x: NDArray[Any], y: NDArray[Any] | None, normalization: Normalization, source: str
) -> DataSet:
    """Types and lengths; shapes come later, when the network's are known."""
    if x.ndim == 0 or len(x) == 0:
        raise DataError(f"data {source}: there are no samples in it")
    if x.dtype != np.uint8:
        if not np.issubdtype(x.dtype, np.floating):
            raise DataError(f"data {source}: x is {x.dtype}", f"x must be {FORMS}")
        x = x.astype(np.float32, copy=False)
        if bad := len(x) - int(np.isfinite(x.reshape(len(x), -1)).all(1).sum()):
            raise DataError(f"data {source}: {bad} of {len(x)} samples hold NaN or infinite values")
    elif x.ndim == 3:
        x = x[..., None]
    if y is None:
        return DataSet(x, None, normalization)
    if y.shape != (len(x),) or not np.issubdtype(y.dtype, np.integer):
        raise DataError(
            f"data {source}: y is {y.dtype} {shape_text(y.shape)}, for {len(x)} samples",
            "y must hold one integer class per sample",
        )
    return DataSet(x, y.astype(np.int64), normalization)
