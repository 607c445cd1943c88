"""Weights that a model keeps in files beside itself.

They are read through descriptors that were checked after they were opened, so that nothing can be
swapped in between; onnx's own loader checks names first and opens later. A link is followed only to
the folder of the model, or to where the model itself is a link to (as download caches do).
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx

from hwprune.errors import ModelError, UnsafeModelError

LARGER = "raise --max-model-size if you trust where the file comes from"
_INSIDE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK  # a FIFO must not be waited for


def embed(tensor: onnx.TensorProto, data: bytes) -> None:
    """Puts what was external into the tensor itself."""
    tensor.ClearField("external_data")
    tensor.data_location = onnx.TensorProto.DEFAULT
    tensor.raw_data = data


def read_external(tensor: onnx.TensorProto, model: Path, most_bytes: int) -> bytes:
    """The external data of one tensor.

    Raises:
        UnsafeModelError: It is not one regular file in the model's folder, or the range lies
            outside it or has more than `most_bytes`.
        ModelError: It cannot be read.
    """
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    where = f"external data of {tensor.name!r} at {location!r}"
    if not location or Path(location).is_absolute() or ".." in Path(location).parts:
        raise UnsafeModelError(f"{where} leaves the model's folder")
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", 0))
        with _opened(model.parent / location, model, where) as file:
            return _range(file, offset, length, most_bytes, where)
    except (OSError, ValueError) as error:
        raise ModelError(f"{where} cannot be read: {error}") from error


@contextmanager
def _opened(path: Path, model: Path, where: str) -> Iterator[int]:
    """A descriptor of one regular file, reached without a link from a folder of the model."""
    real = path.resolve(strict=True)
    homes = (model.parent.resolve(), model.resolve().parent)
    home = next((h for h in homes if real.is_relative_to(h)), None)
    if home is None:
        raise UnsafeModelError(f"{where} is a link out of the model's folder")
    folder = os.open(home, os.O_RDONLY | os.O_DIRECTORY)
    try:
        *between, name = real.relative_to(home).parts
        for part in between:
            inner = os.open(part, _INSIDE | os.O_DIRECTORY, dir_fd=folder)
            os.close(folder)
            folder = inner
        # opening alone can do something to a device, so what is no plain file is not even opened
        _check_plain(os.stat(name, dir_fd=folder, follow_symlinks=False), where)
        file = os.open(name, _INSIDE, dir_fd=folder)
    finally:
        os.close(folder)
    try:
        _check_plain(os.fstat(file), where)
        yield file
    finally:
        os.close(file)


def _check_plain(status: os.stat_result, where: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise UnsafeModelError(f"{where} is not a regular file")
    if status.st_nlink != 1:
        raise UnsafeModelError(f"{where} is a hard link", "copy the model into a folder of its own")


def _range(file: int, offset: int, length: int, most_bytes: int, where: str) -> bytes:
    size = os.fstat(file).st_size
    length = length or size - offset
    if offset < 0 or length < 0 or offset + length > size:
        raise UnsafeModelError(f"{where} reaches beyond the file's {size} bytes")
    if length > most_bytes:
        raise UnsafeModelError(
            f"{where} has {length} bytes, the limit leaves room for {most_bytes}", LARGER
        )
    with os.fdopen(os.dup(file), "rb") as stream:
        stream.seek(offset)
        return stream.read(length)
