"""Rows on their way between tables: to and from lines of JSON, or straight out of another file."""

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import BinaryIO

from hwprune.errors import StoreError
from hwprune.latency.fingerprint import canonical
from hwprune.latency.ledger import Ledger
from hwprune.latency.lines import (
    HEAD,
    InvalidError,
    Measured,
    Origin,
    origin_line,
    parse,
    read_origin,
    read_row,
    row_line,
)
from hwprune.latency.records import Row, Target
from hwprune.store.files import write_atomic

_MOST_BYTES = 1 << 20  # of a line
_BATCH = 1000  # rows per commit
_MOST_REASONS = 5


Coming = Iterable[tuple[Origin, Measured]]


@dataclass(slots=True)
class Counts:
    """What became of rows that came in."""

    added: int = 0
    replaced: int = 0  # ours was seen by fewer processes, or is older
    kept: int = 0  # ours
    refused: int = 0
    reasons: list[str] = field(default_factory=list)  # of the first few

    def refuse(self, why: str, rows: int = 1) -> None:
        """Counts what cannot be believed."""
        self.refused += rows
        if len(self.reasons) < _MOST_REASONS:
            self.reasons.append(why)


def export_rows(ledger: Ledger, path: Path) -> int:
    """Writes the rows of all targets as lines of JSON; how many. Raises StoreError."""
    lines, count = [canonical(HEAD)], 0
    for origin, rows in groupby(_stored(ledger), key=itemgetter(0)):
        found = [row_line(origin, row) for _, row in rows]
        lines += [origin_line(origin), *found]
        count += len(found)
    write_atomic(path, ("\n".join(lines) + "\n").encode())
    return count


def import_rows(ledger: Ledger, path: Path) -> Counts:
    """Takes in what `export_rows` wrote; whatever else a line holds is refused and counted.

    Raises:
        StoreError: The file cannot be read or is no export, or the table cannot be written.
    """
    counts = Counts()
    try:
        with path.open("rb") as file:
            _check_head(file, path)
            _absorb(ledger, _read(file, counts), counts)
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error
    return counts


def merge_rows(ledger: Ledger, path: Path) -> Counts:
    """Takes in the rows of another table's file, which is left alone whatever its state.

    Raises:
        StoreError: It cannot be read or is of another program, or the table cannot be written.
    """
    counts = Counts()
    with tempfile.TemporaryDirectory() as folder, Ledger(_copied(path, Path(folder))) as other:
        _absorb(ledger, _stored(other), counts)
        if other.moved_aside:
            counts.refuse(f"{path} is damaged: only what could be read of it was taken")
        if other.damaged:
            counts.refuse("rows do not fit their checksums", other.damaged)
    return counts


def _absorb(ledger: Ledger, coming: Coming, counts: Counts) -> None:
    """Enters rows; where there is one already, more processes win, then the newer one."""
    for origin, group in groupby(coming, key=itemgetter(0)):
        target = ledger.register(origin.identity)
        sessions = _Sessions(ledger, target, origin)
        rows = (row for _, row in group)
        while some := list(islice(rows, _BATCH)):
            _enter(ledger, target, [(r.key, sessions.row(r)) for r in some], counts)


class _Sessions:
    """Sessions of another table under the numbers they get in this one."""

    def __init__(self, ledger: Ledger, target: Target, origin: Origin) -> None:
        self._ledger, self._target, self._origin = ledger, target, origin
        self._numbers: dict[str, int] = {}

    def row(self, found: Measured) -> Row:
        """Ready to be entered."""
        if found.session not in self._numbers:
            conditions = self._origin.sessions.get(found.session, {})
            self._numbers[found.session] = self._ledger.begin(self._target, conditions)
        number = self._numbers[found.session]
        return Row.of(found.samples, number, found.created)


def _enter(ledger: Ledger, target: Target, rows: list[tuple[str, Row]], counts: Counts) -> None:
    best = dict(sorted(rows, key=lambda pair: _rank(pair[1])))
    counts.kept += len(rows) - len(best)

    def better(key: str, ours: Row | None) -> Row | None:
        if ours is not None and _rank(best[key]) <= _rank(ours):
            counts.kept += 1
            return None
        counts.added += ours is None
        counts.replaced += ours is not None
        return best[key]

    ledger.update(target, list(best), better)


def _rank(row: Row) -> tuple[int, float]:
    return len(row.samples.runs_ns), row.created


def _stored(ledger: Ledger) -> Iterator[tuple[Origin, Measured]]:
    for target in ledger.targets():
        conditions = {str(n): c for n, c in ledger.conditions(target).items()}
        origin = Origin(target.identity, conditions)
        for key, row in ledger.rows(target):
            yield origin, Measured(key, row.samples, row.created, str(row.session))


def _check_head(file: BinaryIO, path: Path) -> None:
    try:
        found = parse(next(_lines(file), b""))
    except InvalidError:
        found = {}
    if found != HEAD:
        raise StoreError(
            f"{path} is no exported latency table",
            "hwprune table export writes one; hwprune table merge reads a .db file",
        )


def _read(file: BinaryIO, counts: Counts) -> Iterator[tuple[Origin, Measured]]:
    origin = None
    for number, line in enumerate(_lines(file), 2):
        try:
            fields = parse(line)
            if "target" in fields:
                origin = None  # rows below a bad line belong to none
                origin = read_origin(fields)
            elif origin is None:
                raise InvalidError("a row of no target")
            else:
                yield origin, read_row(origin, fields)
        except InvalidError as error:
            counts.refuse(f"line {number}: {error}")


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Lines; one that is too long comes as an empty one."""
    while line := file.readline(_MOST_BYTES):
        whole = line
        while len(line) == _MOST_BYTES and not line.endswith(b"\n"):
            whole = b""
            line = file.readline(_MOST_BYTES)
        yield whole


def _copied(path: Path, folder: Path) -> Path:
    """A copy with the journal, if one is there, so that a writer's last crash is undone in it."""
    copy = folder / "other.db"
    try:
        shutil.copyfile(path, copy)
        journal = path.with_name(path.name + "-journal")
        if journal.exists():
            shutil.copyfile(journal, folder / "other.db-journal")
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error
    return copy
