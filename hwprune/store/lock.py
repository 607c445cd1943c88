"""Kernel locks: gone with the process that holds them, so there are no stale ones."""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from hwprune.errors import StoreError

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


def lock_beside(path: Path) -> Path:
    """The lock file of a file that several processes share."""
    return path.with_name(path.name + ".lock")


@contextlib.contextmanager
def locked(
    path: Path, wait_s: float = 0.0, waiting: Callable[[str], None] | None = None
) -> Iterator[None]:
    """Holds the lock file `path`; `waiting` is told once who else holds it.

    Raises:
        StoreError: Somebody else still holds it after `wait_s` seconds ("locked by pid ...").
    """
    try:
        handle = os.open(path, _FLAGS, 0o600)
    except OSError as error:
        raise StoreError(f"cannot lock {path}: {error.strerror}") from error
    try:
        _acquire(handle, path, time.monotonic() + wait_s, waiting)
        _sign(handle)
        yield
    finally:
        os.close(handle)


def _acquire(
    handle: int, path: Path, deadline: float, waiting: Callable[[str], None] | None
) -> None:
    while not _taken(handle, path):
        if time.monotonic() >= deadline:
            raise StoreError(
                f"{path.parent} is locked by {_holder(handle)}",
                "wait for it, or choose another folder",
            )
        if waiting:
            waiting(_holder(handle))
            waiting = None
        time.sleep(0.1)


def _taken(handle: int, path: Path) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:  # a network file system that knows no locks
        raise StoreError(
            f"cannot lock {path}: {error.strerror}", "set HWPRUNE_CACHE to a local folder"
        ) from error
    return True


def _sign(handle: int) -> None:
    """Who holds it, for the message that the next one prints."""
    with contextlib.suppress(OSError):  # a full disk must not keep anybody from locking
        os.ftruncate(handle, 0)
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        os.pwrite(handle, json.dumps({"pid": os.getpid(), "since": since}).encode(), 0)


def _holder(handle: int) -> str:
    try:
        found = json.loads(os.pread(handle, 4096, 0))
        return f"pid {int(found['pid'])} since {found['since']}"
    except (ValueError, KeyError, TypeError):
        return "another process"
