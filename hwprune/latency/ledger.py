"""The file of the latency table, with the rows of all targets."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

from hwprune.latency.fingerprint import digest_of
from hwprune.latency.records import (
    KEYS,
    SCHEMA,
    VERSION,
    Row,
    Target,
    is_sound,
    rescue,
    row_of,
    signed,
    target_of,
)
from hwprune.store.database import Database

_CHUNK = 500  # bound variables per query


class Ledger:
    """Targets, the sessions they were measured in, and their rows.

    Several processes may use the file at once. A row whose checksum does not fit its content is
    passed over and counted in `damaged`. Of a file that is no sound database the sound rows go
    into a new one and the old one is moved aside; one with an older schema is moved aside as it is.

    Args:
        path: The file, made if absent; None keeps the table in memory.

    Raises:
        StoreError: The file belongs to another program or a newer hwprune, or cannot be opened.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._bad: set[tuple[int, str]] = set()
        self._database = Database(path, SCHEMA, VERSION, rescue)

    def close(self) -> None:
        """Closes the file."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def moved_aside(self) -> Path | None:
        """Where the file went that stood here before, if it could not be used."""
        return self._database.moved_aside

    @property
    def damaged(self) -> int:
        """Rows and targets that were passed over so far."""
        return len(self._bad)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was wrong with the file, for the user."""
        if self.moved_aside is None:
            return ()
        kept = f"it is kept as {self.moved_aside}"
        if self._database.reason == "outdated":
            return (f"{self.path} was written by an older hwprune: {kept}; rows are measured anew",)
        saved = sum(self.count(t) for t in self.targets())
        return (f"{self.path} was damaged: {kept}, {saved} rows of it were saved",)

    def targets(self) -> list[Target]:
        """All that are sound, in the order they came."""
        found = map(target_of, self._database.read("SELECT * FROM target ORDER BY id"))
        return [t for t in found if t]

    def register(self, identity: str) -> Target:
        """The target with this description, entered if new.

        Where its entry is damaged its rows are stale: since when they are valid is not known.
        """
        digest = digest_of(identity)
        with self._database.transaction() as c:
            stored = c.execute("SELECT * FROM target WHERE digest=?", (digest,)).fetchone()
            if stored and (sound := target_of(stored)):
                return sound
            if stored:
                self._bad.add((stored[0], ""))
                following = c.execute("SELECT coalesce(max(id), 0) + 1 FROM session").fetchone()
                target = Target(stored[0], digest, identity, int(following[0]))
            else:
                number = c.execute("SELECT coalesce(max(id), 0) + 1 FROM target").fetchone()
                target = Target(int(number[0]), digest, identity, 0)
            c.execute("INSERT OR REPLACE INTO target VALUES (?,?,?,?,?)", target.fields)
            return target

    def begin(self, target: Target, conditions: Mapping[str, str]) -> int:
        """A new session of measuring; its number is larger than all before."""
        text, started = json.dumps(dict(conditions), sort_keys=True), time.time()
        with self._database.transaction() as c:
            number = int(c.execute("SELECT coalesce(max(id), 0) + 1 FROM session").fetchone()[0])
            fields = signed(target.digest, target.id, number, started, text)
            c.execute("INSERT INTO session VALUES (?,?,?,?,?)", fields)
        return number

    def conditions(self, target: Target) -> dict[int, dict[str, str]]:
        """What was noted about each session of a target."""
        query = "SELECT * FROM session WHERE target=?"
        stored = self._database.read(query, (target.id,))
        return {f[1]: json.loads(f[3]) for f in stored if is_sound(target.digest, f)}

    def outdate(self, target: Target, session: int) -> Target:
        """Makes the rows of all sessions before this one stale."""
        changed = replace(target, valid_from=session)
        with self._database.transaction() as c:
            c.execute("INSERT OR REPLACE INTO target VALUES (?,?,?,?,?)", changed.fields)
        return changed

    def update(
        self, target: Target, keys: Sequence[str], change: Callable[[str, Row | None], Row | None]
    ) -> None:
        """Replaces rows by what `change` makes of them, as one transaction; None leaves one alone.

        Raises:
            StoreError: Disk full, or the file stays locked; nothing is changed then.
        """
        with self._database.transaction() as c:
            known = self.read(target, keys)
            changed = ((key, change(key, known.get(key))) for key in keys)
            rows = [row.fields(target, key) for key, row in changed if row]
            c.executemany("INSERT OR REPLACE INTO row VALUES (?,?,?,?,?,?,?,?,?,?)", rows)

    def read(self, target: Target, keys: Sequence[str]) -> dict[str, Row]:
        """The rows with these keys, stale ones left out."""
        found: dict[str, Row] = {}
        for start in range(0, len(keys), _CHUNK):
            chunk = keys[start : start + _CHUNK]
            marks = ",".join("?" * len(chunk))
            query = f"SELECT * FROM row WHERE target=? AND session>=? AND kernel IN ({marks})"
            found |= self._sound(query, target, chunk)
        return found

    def rows(self, target: Target) -> Iterator[tuple[str, Row]]:
        """All rows of a target by key, stale ones left out."""
        return self._sound("SELECT * FROM row WHERE target=? AND session>=?", target)

    def count(self, target: Target, stale: bool = False) -> int:
        """How many rows of a target are not stale, or are."""
        query = f"SELECT count(*) FROM row WHERE target=? AND session{'<' if stale else '>='}?"
        return int(self._database.read(query, (target.id, target.valid_from))[0][0])

    def check(self) -> tuple[int, int]:
        """How many entries there are, and how many of them do not fit their checksum."""
        digests = {t.id: t.digest for t in self.targets()}
        total = bad = 0
        for table in KEYS:
            for fields in self._database.each(f"SELECT * FROM {table}"):
                total += 1
                bad += not is_sound(digests.get(fields[0]), fields)
        return total, bad

    def renew(self) -> None:
        """Moves the file aside and goes on with its sound rows in a new one. Raises StoreError."""
        self._database.renew()

    def _sound(
        self, query: str, target: Target, keys: Sequence[str] = ()
    ) -> Iterator[tuple[str, Row]]:
        values = (target.id, target.valid_from, *keys)
        for fields in self._database.each(query, values):
            if row := row_of(target.digest, fields):
                yield fields[1], row
            else:
                self._bad.add((target.id, fields[1]))
