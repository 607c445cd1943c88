"""The latency table: one row per kernel and target, kept from run to run."""

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from hwprune.backend import Identity, Kernel, Samples
from hwprune.latency.fingerprint import describe, fingerprint
from hwprune.latency.measure import kernel_ns
from hwprune.store.database import Database, checksum

VERSION = 1
_SCHEMA = """
CREATE TABLE target (id INTEGER PRIMARY KEY, digest TEXT UNIQUE NOT NULL, identity TEXT NOT NULL);
CREATE TABLE row (
  target INTEGER NOT NULL REFERENCES target(id), kernel TEXT NOT NULL, ns REAL NOT NULL,
  samples TEXT NOT NULL, created REAL NOT NULL, checksum TEXT NOT NULL,
  PRIMARY KEY (target, kernel)
) WITHOUT ROWID;
"""
_CHUNK = 500  # bound variables per query


@dataclass(frozen=True, slots=True)
class Row:
    """A measured kernel as stored."""

    ns: float
    samples: Samples
    created: float  # seconds since 1970


class LatencyTable:
    """Rows of one target in the file `path` (None: memory), which holds other targets too.

    Several processes may use the file at once. A row whose checksum does not fit its content is
    dropped and counted in `damaged`; a file that is no sound database is moved aside
    (`moved_aside`).

    Raises:
        StoreError: The file belongs to another program, or cannot be opened.
    """

    def __init__(self, path: Path | None, identity: Identity, threads: int) -> None:
        self.path = path
        self.threads = threads
        self.damaged = 0
        self._digest = fingerprint(identity, threads)
        self._database = Database(path, _SCHEMA, VERSION)
        self.moved_aside = self._database.moved_aside
        self._target = self._register(describe(identity, threads))

    def close(self) -> None:
        """Closes the file."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __len__(self) -> int:
        query = "SELECT count(*) FROM row WHERE target=?"
        return int(self._database.read(query, (self._target,))[0][0])

    def get(self, kernel: Kernel) -> float | None:
        """Nanoseconds, or None if the kernel was not measured."""
        return self.get_many([kernel]).get(kernel)

    def get_many(self, kernels: Iterable[Kernel]) -> dict[Kernel, float]:
        """Nanoseconds of those that are known."""
        by_key = {k.key(): k for k in kernels}
        return {by_key[key]: row.ns for key, row in self._rows(list(by_key)).items()}

    def row(self, kernel: Kernel) -> Row | None:
        """Everything stored about a kernel."""
        return self._rows([kernel.key()]).get(kernel.key())

    def put(self, kernel: Kernel, samples: Samples) -> None:
        """Stores one measurement, replacing an older one. Raises StoreError."""
        self.put_many({kernel: samples})

    def put_many(self, measured: Mapping[Kernel, Samples]) -> None:
        """Stores measurements, all or none. Raises StoreError."""
        created = time.time()
        rows = [self._encode(k.key(), s, created) for k, s in measured.items()]
        with self._database.transaction() as connection:
            connection.executemany("INSERT OR REPLACE INTO row VALUES (?,?,?,?,?,?)", rows)

    def _register(self, identity: str) -> int:
        """The number of our target in this file; a damaged entry is renewed with its rows gone."""
        query = "SELECT id, identity FROM target WHERE digest=?"
        with self._database.transaction() as connection:
            found = connection.execute(query, (self._digest,)).fetchone()
            if found and found[1] == identity:
                return int(found[0])
            if found:
                connection.execute("DELETE FROM row WHERE target=?", (found[0],))
                connection.execute("DELETE FROM target WHERE id=?", (found[0],))
            insert = "INSERT INTO target (digest, identity) VALUES (?,?)"
            return int(connection.execute(insert, (self._digest, identity)).lastrowid or 0)

    def _rows(self, keys: list[str]) -> dict[str, Row]:
        found: dict[str, Row] = {}
        for start in range(0, len(keys), _CHUNK):
            chunk = keys[start : start + _CHUNK]
            marks = ",".join("?" * len(chunk))
            query = (
                "SELECT kernel, ns, samples, created, checksum FROM row "
                f"WHERE target=? AND kernel IN ({marks})"
            )
            for fields in self._database.read(query, (self._target, *chunk)):
                if (row := self._decode(*fields)) is None:
                    self.damaged += 1
                else:
                    found[fields[0]] = row
        return found

    def _encode(self, key: str, samples: Samples, created: float) -> tuple[Any, ...]:
        ns = kernel_ns(samples)
        text = json.dumps([samples.runs_ns, samples.cpu_share], allow_nan=False)
        signed = checksum(self._digest, key, ns, text, created)
        return self._target, key, ns, text, created, signed

    def _decode(self, key: str, ns: Any, text: str, created: Any, signed: str) -> Row | None:
        """None if the row is not what was written; the digest in the sum ties it to its target."""
        try:
            if checksum(self._digest, key, ns, text, created) != signed:
                return None
            runs, shares = json.loads(text)
        except (TypeError, ValueError):
            return None
        return Row(ns, Samples(tuple(tuple(r) for r in runs), tuple(shares)), created)
