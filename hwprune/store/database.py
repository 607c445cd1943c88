"""SQLite with the durable settings, checked on open, and rows that carry their own checksum.

journal_mode=DELETE with synchronous=FULL: a commit costs about 12 ms, which is nothing beside a
measurement, and unlike WAL it is safe on network file systems and on SQLite before 3.51.3.
"""

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hwprune.errors import StoreError
from hwprune.store.lock import lock_beside, locked
from hwprune.store.repair import Rescue, Unusable, decoded, rebuild

APPLICATION_ID = 0x68777072  # "hwpr"
_BUSY_S = 30.0
_FULL = "free some space and run the same command again: it resumes"
_DENIED = "set HWPRUNE_CACHE to a folder that can be written"
_SURROUNDINGS = {  # primary error code -> what to do; any other error is the file's own fault
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_IOERR: _FULL,
    sqlite3.SQLITE_READONLY: _DENIED,
    sqlite3.SQLITE_CANTOPEN: _DENIED,
    sqlite3.SQLITE_PERM: _DENIED,
    sqlite3.SQLITE_BUSY: "another process holds the file: run the same command again",
    sqlite3.SQLITE_NOMEM: "",
}


class _OutdatedError(sqlite3.DatabaseError):
    """The file has the schema of an earlier version."""


class Database:
    """One SQLite file, or memory if `path` is None.

    Threads may use it one after the other.

    A damaged file, or one with an older schema, is moved aside with a timestamp (`moved_aside`,
    `reason`) and a new one takes its place, with what `rescue` could copy of a damaged one.

    Raises:
        StoreError: It belongs to another program or a newer hwprune, or cannot be opened.
    """

    def __init__(
        self, path: Path | None, schema: str, version: int, rescue: Rescue | None = None
    ) -> None:
        self.path = path
        self.moved_aside: Path | None = None
        self.reason = ""
        self._schema, self._version, self._rescue = schema, version, rescue
        try:
            self.connection = self._open()
        except Unusable as error:
            self.connection = self._renewed(error)

    def close(self) -> None:
        """Closes the file; a later call does nothing."""
        self.connection.close()

    def renew(self) -> None:
        """Begins a new file with what `rescue` copies, as if this one was damaged."""
        assert self.path is not None
        self.close()
        with locked(lock_beside(self.path), _BUSY_S):
            self._replace(self.path, "damaged")
        self.connection = self._open()

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
            if isinstance(error, Unusable):
                raise self._failed(error) from error
            raise

    def read(self, query: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Rows of a query. Raises StoreError if the file was damaged since it was opened."""
        return list(self.each(query, values))

    def each(self, query: str, values: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
        """As `read`, one at a time; writers wait until the last."""
        try:
            yield from self.connection.execute(query, values)
        except Unusable as error:
            raise self._failed(error) from error

    def _renewed(self, error: Exception) -> sqlite3.Connection:
        """Opens a new file in place of an unusable one, unless it is not the file's fault."""
        if self.path is None or _code(error) in _SURROUNDINGS:
            raise self._failed(error) from error
        with locked(lock_beside(self.path), _BUSY_S):  # nobody measures into it meanwhile
            try:
                return self._open()  # another process was quicker
            except _OutdatedError:
                self._replace(self.path, "outdated")
            except Unusable as again:
                if _code(again) in _SURROUNDINGS:
                    raise self._failed(again) from again
                self._replace(self.path, "damaged")
            return self._open()

    def _replace(self, path: Path, reason: str) -> None:
        self.moved_aside = rebuild(path, reason, self._prepare, self._rescue)
        self.reason = reason

    def _open(self) -> sqlite3.Connection:
        place = ":memory:" if self.path is None else str(self.path)
        connection = sqlite3.connect(
            place, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )
        connection.text_factory = decoded
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.execute("PRAGMA synchronous=FULL")
        if connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("quick_check failed")
        connection.execute("BEGIN IMMEDIATE")
        statements = [text.strip() for text in self._schema.split(";") if text.strip()]
        if (found := _statements(connection)) or _pragma(connection, "application_id"):
            self._check(connection)
            if found != set(statements):
                raise sqlite3.DatabaseError("the schema was changed")
        else:
            for statement in statements:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={self._version}")
        connection.execute("COMMIT")

    def _check(self, connection: sqlite3.Connection) -> None:
        if _pragma(connection, "application_id") != APPLICATION_ID:
            raise StoreError(f"{self.path} is a database of another program", "choose another path")
        if (version := _pragma(connection, "user_version")) < self._version:
            raise _OutdatedError(f"schema {version}")
        if version > self._version:
            raise StoreError(
                f"{self.path} has schema {version}, this hwprune reads {self._version}",
                "set HWPRUNE_CACHE to another folder, or use the hwprune that wrote it",
            )

    def _failed(self, error: Exception) -> StoreError:
        hint = _SURROUNDINGS.get(_code(error), "hwprune table check saves what can be read of it")
        return StoreError(f"{self.path or 'the table in memory'}: {error}", hint)


def _code(error: Exception) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _statements(connection: sqlite3.Connection) -> set[str]:
    query = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL"
    return {text for (text,) in connection.execute(query)}


def checksum(*fields: Any) -> str:
    """SHA-256 of the canonical JSON of a row; SQLite does not notice a flipped bit in a cell."""
    text = json.dumps(fields, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
