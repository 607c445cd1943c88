"""A .hwp file as the model that it holds; nothing heavy is imported for it."""

from pathlib import Path

from hwprune.codec.decoder import DecodeError, decode
from hwprune.errors import ModelError


def unpack(path: Path, max_bytes: int) -> tuple[bytes, str]:
    """The model in a .hwp file, and what is to be said about it ("" if it is whole).

    Raises ModelError.
    """
    try:
        found = decode(path.read_bytes(), max_bytes)
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}", "check the path") from error
    except DecodeError as error:
        raise ModelError(
            f"{path}: {error}", "copy the file again, or pack the model again"
        ) from error
    if found.complete:
        return found.model, ""
    return (
        found.model,
        f"the file ends early: it holds {found.share:.0%} of what refines the weights",
    )
