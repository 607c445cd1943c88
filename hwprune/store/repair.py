"""What can still be read of a damaged SQLite file, and the new file that takes its place."""

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hwprune.errors import StoreError

Fields = tuple[Any, ...]
Read = Callable[[str, Sequence[str]], Iterator[Fields]]  # table, its primary key -> rows
# sqlite3 decodes its own messages, which may quote what a flipped bit has left of a name.
Unusable = (sqlite3.Error, UnicodeDecodeError)
Rescue = Callable[[Read, sqlite3.Connection], None]
"""Copies what is sound; a row may be read twice, and nothing that is read can be trusted."""


def rebuild(
    path: Path, reason: str, prepare: Callable[[sqlite3.Connection], None], rescue: Rescue | None
) -> Path:
    """Puts a new file in the place of `path`, with what `rescue` copies; the old one's new name.

    The caller keeps other writers out. Until the last step the old file stays where it is, and
    there is no moment without a file.

    Raises:
        StoreError: Disk full, or no permission; the old file is unchanged then.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.unlink(missing_ok=True)  # of a process with our number that was killed
        with contextlib.closing(sqlite3.connect(fresh, isolation_level=None)) as connection:
            prepare(connection)
            if rescue:
                connection.execute("BEGIN IMMEDIATE")
                rescue(lambda table, key: _readable(path, table, key), connection)
                connection.execute("COMMIT")
        return _swap(path, fresh, reason)
    except (OSError, *Unusable) as error:
        raise StoreError(
            f"{path} is {reason} and cannot be replaced: {error}",
            "free some space, or move it away; then run the same command again",
        ) from error
    finally:
        fresh.unlink(missing_ok=True)
        _journal(fresh).unlink(missing_ok=True)


def _swap(path: Path, fresh: Path, reason: str) -> Path:
    stamp = f"{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() % 10**9:09d}"
    aside = path.with_name(f"{path.name}.{reason}-{stamp}")
    # A journal left beside it belongs to the old file and must not replay into the new one.
    with contextlib.suppress(FileNotFoundError):
        _journal(path).rename(_journal(aside))
    os.link(path, aside)
    fresh.replace(path)
    return aside


def _journal(path: Path) -> Path:
    return path.with_name(path.name + "-journal")


def _readable(path: Path, table: str, key: Sequence[str]) -> Iterator[Fields]:
    """Rows from either end of the table, up to the first page that cannot be read."""
    place = f"{path.absolute().as_uri()}?immutable=1"
    for order in ("ASC", "DESC"):
        query = f"SELECT * FROM {table} ORDER BY {','.join(f'{c} {order}' for c in key)}"
        with (
            contextlib.suppress(*Unusable),
            contextlib.closing(sqlite3.connect(place, uri=True)) as connection,
        ):
            connection.text_factory = decoded
            yield from connection.execute(query)
            return


def decoded(raw: bytes) -> str:
    """Text of a cell; a flipped bit may have made it something else than UTF-8."""
    return raw.decode("utf-8", errors="replace")
