import contextlib
import errno
import os
import random
import sqlite3

import pytest

from hwprune.errors import StoreError
from hwprune.store.database import Database, checksum

SCHEMA = "CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL)"


@pytest.fixture
def path(tmp_path):
    """A database with 200 rows."""
    found = tmp_path / "notes.db"
    database = Database(found, SCHEMA, 1)
    with database.transaction() as connection:
        rows = [(i, "x" * 200) for i in range(200)]
        connection.executemany("INSERT INTO note VALUES (?,?)", rows)
    database.close()
    return found


def count(path):
    database = Database(path, SCHEMA, 1)
    rows = database.read("SELECT count(*) FROM note")[0][0]
    database.close()
    return rows, database.moved_aside


def test_settings_are_the_durable_ones(path):
    database = Database(path, SCHEMA, 1)
    assert database.read("PRAGMA journal_mode") == [("delete",)]
    assert database.read("PRAGMA synchronous") == [(2,)]
    database.close()


def test_it_is_kept(path):
    assert count(path) == (200, None)


def test_a_failed_transaction_leaves_no_trace(path):
    database = Database(path, SCHEMA, 1)
    statements = ["DELETE FROM note", "DELETE FROM absent"]
    with pytest.raises(StoreError, match="no such table"), database.transaction() as connection:
        list(map(connection.execute, statements))
    database.close()
    assert count(path) == (200, None)


@pytest.mark.parametrize("harm", ["truncate", "zero a page", "text", "zero the header"])
def test_a_damaged_file_is_moved_aside(path, harm):
    data = bytearray(path.read_bytes())
    if harm == "truncate":
        del data[len(data) // 2 :]
    elif harm == "zero a page":
        data[4096:8192] = bytes(4096)
    elif harm == "text":
        data = bytearray(b"this is not a database at all" * 100)
    else:
        data[:100] = bytes(100)
    path.write_bytes(data)
    rows, moved = count(path)
    assert rows == 0
    assert moved is not None
    assert moved.read_bytes() == data
    assert count(path) == (0, None)


def test_an_empty_file_is_a_new_database(tmp_path):
    (tmp_path / "new.db").write_bytes(b"")
    assert count(tmp_path / "new.db") == (0, None)


def test_a_foreign_database_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "photos.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE photo (id)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="another program"):
        Database(path, SCHEMA, 1)
    assert path.read_bytes() == before


def test_a_newer_schema_is_refused_and_left_alone(path):
    before = path.read_bytes()
    with pytest.raises(StoreError, match="schema 1, this hwprune reads 0") as error:
        Database(path, SCHEMA, 0)
    assert error.value.exit_code == 7
    assert path.read_bytes() == before


def test_an_older_schema_is_moved_aside(path):
    before = path.read_bytes()
    database = Database(path, SCHEMA, 2)
    database.close()
    assert database.reason == "outdated"
    assert ".outdated-" in database.moved_aside.name
    assert database.moved_aside.read_bytes() == before


def test_a_schema_that_was_tampered_with_is_not_trusted(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("ALTER TABLE note RENAME COLUMN text TO words")
    assert count(path)[1] is not None


def copy(read, new):
    for fields in read("note", ["id"]):
        new.execute("INSERT OR IGNORE INTO note VALUES (?,?)", fields)


def test_what_can_be_read_of_a_damaged_file_is_saved(path):
    data = bytearray(path.read_bytes())
    middle = len(data) // 4096 // 2 * 4096
    data[middle : middle + 4096] = bytes(4096)
    path.write_bytes(data)
    with contextlib.closing(Database(path, SCHEMA, 1, copy)) as database:
        ids = {i for (i,) in database.read("SELECT id FROM note")}
    assert database.moved_aside.read_bytes() == data
    assert {0, 199} < ids  # from both ends
    assert 150 < len(ids) < 200


def test_a_full_disk_leaves_the_damaged_file_where_it_is(path, monkeypatch):
    path.write_bytes(before := b"this is not a database at all" * 1000)
    monkeypatch.setattr(os, "link", _no_space)
    with pytest.raises(StoreError, match="cannot be replaced") as error:
        Database(path, SCHEMA, 1)
    assert "free some space" in error.value.hint
    assert path.read_bytes() == before
    assert sorted(os.listdir(path.parent)) == ["notes.db", "notes.db.lock"]


def _no_space(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_file_is_an_error_that_says_what_to_do(path):
    path.chmod(0o444)
    with pytest.raises(StoreError) as error:
        Database(path, SCHEMA, 1)
    assert "HWPRUNE_CACHE" in error.value.hint


def test_random_bit_flips_never_crash(path):
    rng, sound = random.Random(0), path.read_bytes()
    for _ in range(60):
        data = bytearray(sound)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        try:
            rows, moved = count(path)
        except StoreError:
            continue
        assert rows == 200 or moved is not None


def test_a_folder_in_place_of_the_file(tmp_path):
    with pytest.raises(StoreError):
        Database(tmp_path, SCHEMA, 1)


def test_checksums_tell_fields_apart():
    assert checksum("a", "bc") != checksum("ab", "c")
    assert checksum(1.0, "x") == checksum(1.0, "x")
