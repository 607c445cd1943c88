"""State dicts, read without running anything: safetensors, or PyTorch files `weights_only`."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from packaging.version import Version
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from hwprune.errors import DataError
from hwprune.graph.safety import MAX_BYTES
from hwprune.units import format_bytes

_HINT = "save the weights with safetensors.torch.save_file(module.state_dict(), path)"
_SHOWN = 5  # names listed in a message
_TIMES_FILE = 4  # checkpoints are not compressed; weights that are shared are there once
_SAFE_TORCH = Version("2.10")  # `weights_only` could be got around before


def load_state_dict(path: Path, max_bytes: int = MAX_BYTES) -> dict[str, Tensor]:
    """Tensors by name; a `state_dict` entry and a `module.` prefix are looked through.

    Raises DataError for anything else than finite tensors by name, and for what takes more than
    `max_bytes`, or more than four times the file, in memory.
    """
    if not path.is_file():
        raise DataError(f"weights {path}: there is no such file")
    if (size := path.stat().st_size) > max_bytes:
        raise _too_large(path, size, max_bytes)
    room = min(max_bytes, _TIMES_FILE * size)
    found = _safetensors(path) if path.suffix == ".safetensors" else _pytorch(path, room)
    if (size := sum(_size(path, name, value) for name, value in found.items())) > room:
        raise _too_large(path, size, room)
    for name, value in found.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise DataError(f"weights {path}: {name!r} holds NaN or infinite values")
    if found and all(name.startswith("module.") for name in found):  # saved by DataParallel
        found = {name.removeprefix("module."): value for name, value in found.items()}
    return found


def assign(module: nn.Module, state: Mapping[str, Tensor], source: Path) -> None:
    """Copies the weights into the module, converted to its types.

    Raises DataError when a name is missing or unexpected, or a shape differs.
    """
    own = module.state_dict()
    needed = {name for name in own if not name.endswith("num_batches_tracked")}
    problems = _names("missing", needed - set(state)) + _names("unexpected", set(state) - set(own))
    problems += [
        f"{name} is {tuple(state[name].shape)}, the network has {tuple(own[name].shape)}"
        for name in sorted(needed & set(state))
        if state[name].shape != own[name].shape
    ][:_SHOWN]
    if problems:
        raise DataError(
            f"weights {source} do not fit the network: {'; '.join(problems)}",
            "check that the factory builds the network these weights were trained in",
        )
    module.load_state_dict(dict(state), strict=False)


def _size(path: Path, name: str, value: Tensor) -> int:
    """Bytes of a plain tensor; those of a view count as if they were its own."""
    if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
        raise DataError(f"weights {path}: {name!r} is not a plain tensor in memory", _HINT)
    return value.numel() * value.element_size()


def _too_large(path: Path, size: int, most: int) -> DataError:
    return DataError(
        f"weights {path}: {format_bytes(size)} in memory, the limit is {format_bytes(most)}",
        f"it is the lesser of --max-model-size and {_TIMES_FILE} times the file",
    )


def _names(what: str, names: set[str]) -> list[str]:
    if not names:
        return []
    more = ", ..." if len(names) > _SHOWN else ""
    return [f"{len(names)} {what} ({', '.join(sorted(names)[:_SHOWN])}{more})"]


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as e:
        raise DataError(f"weights {path}: not a safetensors file: {e}", _HINT) from e


def _pytorch(path: Path, room: int) -> dict[str, Tensor]:
    if Version(torch.__version__).release < _SAFE_TORCH.release:
        raise DataError(
            f"weights {path}: torch {torch.__version__} does not read them safely",
            f"install torch {_SAFE_TORCH} or newer",
        )
    _check_archive(path, room)
    try:
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251
    except Exception as e:  # a damaged file can fail anywhere in the unpickler; never fall back
        reason = str(e).splitlines()[0] if str(e) else type(e).__name__
        raise DataError(f"weights {path}: not a plain state dict: {reason}", _HINT) from e
    if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, Mapping) or not loaded:
        raise DataError(f"weights {path}: holds a {type(loaded).__name__}, no state dict", _HINT)
    for name, value in loaded.items():
        if not (isinstance(name, str) and isinstance(value, Tensor)):
            kind = type(value).__name__
            raise DataError(f"weights {path}: entry {name!r} is a {kind}, not a tensor", _HINT)
    return dict(loaded)


def _check_archive(path: Path, room: int) -> None:
    """Nothing that unpacks to too much; no TorchScript and no exported program, which hold code."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError) as e:
        raise DataError(f"weights {path}: a damaged archive: {e}", _HINT) from e
    if (size := sum(entry.file_size for entry in entries)) > room:
        raise _too_large(path, size, room)
    names = {entry.filename.partition("/")[2] for entry in entries}
    if "constants.pkl" in names or "code" in {name.partition("/")[0] for name in names}:
        raise DataError(f"weights {path}: this is TorchScript, a program, not weights", _HINT)
    if names & {"archive_format", "archive_version"} or path.suffix == ".pt2":
        raise DataError(f"weights {path}: this is an exported program, not weights", _HINT)
