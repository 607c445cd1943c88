"""Where hwprune keeps what outlives a run."""

import os
import tempfile
import warnings
from pathlib import Path

from hwprune.errors import StoreError

TABLE = "latency.db"
_CHOICES = "rewrites"


def cache_folder() -> Path:
    """$HWPRUNE_CACHE, else $XDG_CACHE_HOME/hwprune, else ~/.cache/hwprune; created if absent.

    Raises:
        StoreError: It cannot be written; the latency table can then be kept in memory.
    """
    folder = _wanted()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise StoreError(
            f"the cache folder {folder} cannot be written: {error.strerror}",
            "set HWPRUNE_CACHE to a folder that can",
        ) from error
    return folder


def table_path() -> Path | None:
    """The latency table of this user; None (keep it in memory) with a warning where no cache is."""
    try:
        return cache_folder() / TABLE
    except StoreError as error:
        warnings.warn(f"{error}; latencies are not kept for the next run", stacklevel=2)
        return None


def choice_path(name: str) -> Path | None:
    """Where the choice of rewrites of that name is kept; None where there is no cache."""
    try:
        folder = cache_folder() / _CHOICES
        folder.mkdir(exist_ok=True)
    except (OSError, StoreError):
        return None
    return folder / f"{name}.json"


def existing_table() -> Path:
    """The latency table of this user. Raises StoreError if there is none yet."""
    if not (path := _wanted() / TABLE).is_file():
        raise StoreError(
            f"there is no latency table at {path} yet",
            "hwprune profile makes one, and so does compile",
        )
    return path


def _wanted() -> Path:
    if chosen := os.environ.get("HWPRUNE_CACHE"):
        return Path(chosen)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "hwprune"
    try:
        return Path.home() / ".cache" / "hwprune"
    except RuntimeError as error:
        raise StoreError(
            "there is no home folder to keep a cache in", "set HWPRUNE_CACHE to a folder"
        ) from error
