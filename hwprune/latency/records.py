"""The schema of the table's file, and its rows with a checksum over everything they say."""

import json
import sqlite3
import time
from dataclasses import dataclass
from statistics import median
from typing import Any, Self

from hwprune.backend import Samples
from hwprune.latency.gates import spread, steady, undisturbed
from hwprune.latency.measure import kernel_ns
from hwprune.store.database import checksum
from hwprune.store.repair import Fields, Read

VERSION = 2
# Every last column is a checksum of the digest of the target and of all columns before it.
SCHEMA = """
CREATE TABLE target (
  id INTEGER PRIMARY KEY, digest TEXT UNIQUE NOT NULL, identity TEXT NOT NULL,
  valid_from INTEGER NOT NULL, checksum TEXT NOT NULL
);
CREATE TABLE session (
  target INTEGER NOT NULL REFERENCES target(id), id INTEGER PRIMARY KEY,
  started REAL NOT NULL, conditions TEXT NOT NULL, checksum TEXT NOT NULL
);
CREATE TABLE row (
  target INTEGER NOT NULL REFERENCES target(id), kernel TEXT NOT NULL,
  session INTEGER NOT NULL REFERENCES session(id), ns REAL NOT NULL, spread REAL NOT NULL,
  cpu_share REAL NOT NULL, steady INTEGER NOT NULL, samples TEXT NOT NULL, created REAL NOT NULL,
  checksum TEXT NOT NULL, PRIMARY KEY (target, kernel)
) WITHOUT ROWID;
"""
KEYS = {"target": ("id",), "session": ("id",), "row": ("target", "kernel")}


@dataclass(frozen=True, slots=True)
class Target:
    """A target as the file knows it; rows of sessions before `valid_from` are stale."""

    id: int
    digest: str
    identity: str  # canonical JSON, see `fingerprint.describe`
    valid_from: int

    @property
    def threads(self) -> int:
        """Of the runtime."""
        return int(json.loads(self.identity)["threads"])

    @property
    def fields(self) -> Fields:
        """As stored."""
        return signed(self.digest, self.id, self.digest, self.identity, self.valid_from)


@dataclass(frozen=True, slots=True)
class Row:
    """A measured kernel."""

    ns: float  # the row's price, see `measure.kernel_ns`
    spread: float  # of the medians of its faster processes, relative
    cpu_share: float  # CPU time over wall time and threads, median over processes
    steady: bool  # False: its processes disagree, or none had its cores
    samples: Samples
    created: float  # seconds since 1970
    session: int

    @classmethod
    def of(cls, samples: Samples, session: int, created: float | None = None) -> Self:
        """The figures of raw samples, of processes that had their cores if there are any.

        Raises ValueError if there are no samples.
        """
        sound = undisturbed(samples)
        counted = sound if any(sound.runs_ns) else samples
        return cls(
            kernel_ns(counted),
            spread(counted),
            median(samples.cpu_share),
            steady(samples),
            samples,
            time.time() if created is None else created,
            session,
        )

    def fields(self, target: Target, key: str) -> Fields:
        """As stored."""
        text = json.dumps([self.samples.runs_ns, self.samples.cpu_share], allow_nan=False)
        figures = (float(self.ns), self.spread, self.cpu_share, int(self.steady))
        return signed(target.digest, target.id, key, self.session, *figures, text, self.created)


def row_of(digest: str, fields: Fields) -> Row | None:
    """None if it is not what was written; the digest in the sum ties it to its target."""
    if not is_sound(digest, fields):
        return None
    _, _, session, ns, apart, share, is_steady, text, created, _ = fields
    runs, shares = json.loads(text)
    samples = Samples(tuple(tuple(r) for r in runs), tuple(shares))
    return Row(ns, apart, share, bool(is_steady), samples, created, session)


def target_of(fields: Fields) -> Target | None:
    """None if it is not what was written."""
    return Target(*fields[:-1]) if is_sound(fields[1], fields) else None


def signed(digest: str, *fields: Any) -> Fields:
    """The fields with their checksum behind them."""
    return *fields, checksum(digest, *fields)


def is_sound(digest: Any, fields: Fields) -> bool:
    """Whether the checksum fits."""
    try:
        return bool(checksum(digest, *fields[:-1]) == fields[-1])
    except (TypeError, ValueError):
        return False


def rescue(read: Read, new: sqlite3.Connection) -> None:
    """Copies the sound rows of a damaged file; those of a target that is lost cannot be checked."""
    digests: dict[Any, str] = {}
    for table, key in KEYS.items():
        for fields in read(table, key):
            if table == "target" and is_sound(fields[1], fields):
                digests[fields[0]] = fields[1]
            if is_sound(digests.get(fields[0]), fields):
                marks = ",".join("?" * len(fields))
                new.execute(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", fields)
