"""Files that are either the old one or the new one, whatever happens in between."""

import errno
import os
import tempfile
from pathlib import Path

from hwprune.errors import StoreError


def write_atomic(path: Path, data: bytes) -> None:
    """Replaces `path`: temporary file beside it, flushed, renamed, directory flushed.

    Without the first fsync a power cut can leave a renamed empty file (Pillai et al., "All File
    Systems Are Not Created Equal", OSDI 2014).

    Raises:
        StoreError: Disk full, no permission, no such folder; `path` is unchanged then.
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:64]}.")
    except OSError as error:
        raise _refused(path, error) from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, _mode(path))
        os.replace(name, path)
        _flush_directory(path.parent)
    except OSError as error:
        raise _refused(path, error) from error
    finally:
        Path(name).unlink(missing_ok=True)


def _mode(path: Path) -> int:
    """Permissions of the file that is replaced, else what a new file would get."""
    try:
        return path.stat().st_mode & 0o777
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask


def _flush_directory(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _refused(path: Path, error: OSError) -> StoreError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    hint = "free some space and run the same command again" if full else ""
    return StoreError(f"cannot write {path}: {error.strerror}", hint)
