"""SQLite with the durable settings, checked on open, and rows that carry their own checksum.

journal_mode=DELETE with synchronous=FULL: a commit costs about 12 ms, which is nothing beside a
measurement, and unlike WAL it is safe on network file systems and on SQLite before 3.51.3.
"""

import contextlib
import hashlib
import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hwprune.errors import StoreError

APPLICATION_ID = 0x68777072  # "hwpr"
_BUSY_MS = 30_000


class Database:
    """One SQLite file, or memory if `path` is None.

    A damaged file is moved aside with a timestamp and a new one begun; `moved_aside` names it.

    Raises:
        StoreError: It belongs to another program or a newer hwprune, or cannot be opened.
    """

    def __init__(self, path: Path | None, schema: str, version: int) -> None:
        self.path = path
        self.moved_aside: Path | None = None
        try:
            self.connection = self._open(schema, version)
        except sqlite3.OperationalError as error:
            raise self._failed(error) from error
        except sqlite3.DatabaseError:
            self.moved_aside = self._move_aside()
            self.connection = self._open(schema, version)

    def close(self) -> None:
        """Closes the file; a later call does nothing."""
        self.connection.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing. Raises StoreError if the disk is full or the file stays locked."""
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            yield self.connection
            self.connection.execute("COMMIT")
        except BaseException as error:
            with contextlib.suppress(sqlite3.Error):
                self.connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise self._failed(error) from error
            raise

    def read(self, query: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Rows of a query. Raises StoreError if the file was damaged since it was opened."""
        try:
            return self.connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def _open(self, schema: str, version: int) -> sqlite3.Connection:
        place = ":memory:" if self.path is None else str(self.path)
        connection = sqlite3.connect(place, timeout=_BUSY_MS / 1000, isolation_level=None)
        # Text is decoded by us: a flipped bit may not be UTF-8 any more.
        connection.text_factory = lambda raw: raw.decode("utf-8", errors="replace")
        try:
            self._prepare(connection, schema, version)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection, schema: str, version: int) -> None:
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.execute("PRAGMA synchronous=FULL")
        if connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("quick_check failed")
        connection.execute("BEGIN IMMEDIATE")
        found_id, found_version = (
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("application_id", "user_version")
        )
        empty = not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if not empty and (found_id, found_version) != (APPLICATION_ID, version):
            raise self._foreign(found_id, found_version, version)
        if empty:
            for statement in filter(str.strip, schema.split(";")):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={version}")
        connection.execute("COMMIT")

    def _foreign(self, found_id: int, found_version: int, version: int) -> StoreError:
        if found_id != APPLICATION_ID:
            return StoreError(
                f"{self.path} is a database of another program", "choose another path"
            )
        return StoreError(
            f"{self.path} has schema {found_version}, this hwprune reads {version}",
            "set HWPRUNE_CACHE to another folder, or use the hwprune that wrote it",
        )

    def _move_aside(self) -> Path | None:
        if self.path is None:
            return None
        stamp = time.strftime("%Y%m%d-%H%M%S")
        target = self.path.with_name(f"{self.path.name}.damaged-{stamp}-{time.time_ns() % 10**9}")
        try:
            # A journal left beside it belongs to the damaged file and must not replay into the new.
            journal = self.path.with_name(self.path.name + "-journal")
            self.path.rename(target)
            if journal.exists():
                journal.rename(target.with_name(target.name + "-journal"))
        except OSError as error:
            raise StoreError(f"{self.path} is damaged and cannot be moved: {error}") from error
        return target

    def _failed(self, error: sqlite3.Error) -> StoreError:
        return StoreError(f"{self.path or 'the table in memory'}: {error}")


def checksum(*fields: Any) -> str:
    """SHA-256 of the canonical JSON of a row; SQLite does not notice a flipped bit in a cell."""
    text = json.dumps(fields, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
