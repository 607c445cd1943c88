import contextlib
import multiprocessing
import random
import sqlite3
import time
from dataclasses import replace

import pytest

from hwprune.backend import Identity, Kernel, Samples, Timed
from hwprune.errors import StoreError
from hwprune.latency.table import LatencyTable
from hwprune.store.database import APPLICATION_ID

HERE = Identity("cpu", "Xeon", "onnxruntime 1.31.1", {"isa": "abc"})
SAMPLES = Samples(((1500,) * 9, (1600,) * 9), (1.0, 0.9))


def kernel(i):
    return Kernel("Add", "fp32", ((1, i),), (1, i))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "latency.db"


def test_rows_are_found_by_the_next_run(path):
    with LatencyTable(path, HERE, 1) as table:
        table.put(kernel(1), SAMPLES)
    with LatencyTable(path, HERE, 1) as table:
        assert table.get(kernel(1)) == 1550
        assert table.get(kernel(2)) is None
        assert table.row(kernel(1)).samples == SAMPLES
        assert len(table) == 1


@pytest.mark.parametrize(("identity", "threads"), [(HERE, 2), (replace(HERE, device="Ryzen"), 1)])
def test_another_target_sees_none_of_them(path, identity, threads):
    with LatencyTable(path, HERE, 1) as table:
        table.put(kernel(1), SAMPLES)
    with LatencyTable(path, identity, threads) as other:
        assert other.get(kernel(1)) is None


def test_memory_needs_no_file():
    with LatencyTable(None, HERE, 1) as table:
        table.put(kernel(1), SAMPLES)
        assert table.get_many([kernel(1), kernel(2)]) == {kernel(1): 1550}


def test_a_later_measurement_replaces_the_row(path):
    with LatencyTable(path, HERE, 1) as table:
        table.put(kernel(1), SAMPLES)
        table.put(kernel(1), Samples(((900,),), (1.0,)))
        assert table.get(kernel(1)) == 900
        assert len(table) == 1


@pytest.mark.parametrize("column", ["ns", "samples", "created", "kernel", "steady"])
def test_a_changed_cell_is_never_used(path, column):
    with LatencyTable(path, HERE, 1) as table:
        table.put(kernel(1), SAMPLES)
    changed = {"ns": 1.0, "samples": "[[[1]],[1.0]]", "created": 0.0, "kernel": kernel(2).key()}
    changed["steady"] = 0
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute(f"UPDATE row SET {column}=?", (changed[column],))
    with LatencyTable(path, HERE, 1) as table:
        assert table.get_many([kernel(1), kernel(2)]) == {}
        assert table.damaged == 1


def test_rows_grow_by_what_every_process_saw(path):
    with LatencyTable(path, HERE, 1) as table:
        table.add([(kernel(1), Timed((1500,) * 9, 1.0)), (kernel(2), Timed((7,), 1.0))])
        table.add([(kernel(1), Timed((1600,) * 9, 0.9))])
        assert table.row(kernel(1)).samples == SAMPLES
        assert table.row(kernel(1)).spread == pytest.approx(1 / 15)
        assert table.row(kernel(1)).cpu_share == 0.95


def test_a_damaged_target_makes_its_rows_stale(path):
    with LatencyTable(path, HERE, 1) as table:
        table.put(kernel(1), SAMPLES)
    change(path, "UPDATE target SET valid_from=-5")
    with LatencyTable(path, HERE, 1) as table:
        assert table.get(kernel(1)) is None
        assert table.damaged == 1
        table.put(kernel(1), SAMPLES)
    with LatencyTable(path, HERE, 1) as table:
        assert table.get(kernel(1)) == 1550


def change(path, statement):
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute(statement)


def harmed(data, rng):
    """A flipped bit, a file cut short, a page of zeros or one that is another's copy."""
    data, page = bytearray(data), 4096 * rng.randrange(len(data) // 4096)
    kind = rng.randrange(5)
    if kind <= 1:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == 2:
        del data[rng.randrange(1, len(data)) :]
    elif kind == 3:
        data[page : page + 4096] = bytes(4096)
    else:
        other = 4096 * rng.randrange(len(data) // 4096)
        data[page : page + 4096] = data[other : other + 4096]
    return bytes(data)


@pytest.mark.parametrize("count", [250, pytest.param(3000, marks=pytest.mark.slow)])
def test_no_damage_ever_gives_a_wrong_latency(path, count):
    truth = {kernel(i): 1000.0 + i for i in range(60)}
    with LatencyTable(path, HERE, 1) as table:
        table.put_many({k: Samples(((int(ns),),), (1.0,)) for k, ns in truth.items()})
    rng, sound, found = random.Random(count), path.read_bytes(), []
    for _ in range(count):
        path.write_bytes(harmed(sound, rng))
        try:
            with LatencyTable(path, HERE, 1) as table:
                rows = table.get_many(truth)
                assert rows.items() <= truth.items()
                found.append(len(rows))
        except StoreError:
            continue
    assert len(found) > 0.9 * count  # hardly ever is it no more than an error
    assert sum(found) > 0.5 * count * len(truth)  # what can be saved is


def test_the_rows_of_a_damaged_file_are_saved(path):
    truth = {kernel(i): 1000.0 + i for i in range(400)}
    with LatencyTable(path, HERE, 1) as table:
        table.put_many({k: Samples(((int(ns),),), (1.0,)) for k, ns in truth.items()})
    data = bytearray(path.read_bytes())
    data[-8192:-4096] = bytes(4096)
    path.write_bytes(data)
    with LatencyTable(path, HERE, 1) as table:
        rows = table.get_many(truth)
        assert 300 < len(rows) < 400
        assert rows.items() <= truth.items()
        assert f"was damaged: it is kept as {table.moved_aside}" in table.notes[0]
        assert f"{len(rows)} rows of it were saved" in table.notes[0]
    with LatencyTable(path, HERE, 1) as table:
        assert table.moved_aside is None
        assert len(table) == len(rows)


def test_a_table_of_an_older_version_is_moved_aside(path):
    change(path, f"PRAGMA application_id={APPLICATION_ID}")
    change(path, "PRAGMA user_version=1")
    change(path, "CREATE TABLE row (target, kernel, ns, samples, created, checksum)")
    with LatencyTable(path, HERE, 1) as table:
        assert "written by an older hwprune" in table.notes[0]
        assert ".outdated-" in table.moved_aside.name
        table.put(kernel(1), SAMPLES)
        assert table.get(kernel(1)) == 1550


THERE = replace(HERE, device="Ryzen")
FAR = replace(HERE, device="Ryzen", runtime="onnxruntime 1.30.0")


@pytest.fixture
def measured_elsewhere(path):
    """Kernel 1 and 2 have rows on a near and a far target, none on this one."""
    for identity, ns in ((FAR, 9000), (THERE, 3000)):
        with LatencyTable(path, identity, 1) as table:
            table.put_many({kernel(i): Samples(((i * ns,),), (1.0,)) for i in (1, 2)})
    return path


def test_another_machine_s_rows_are_refused_with_the_difference(measured_elsewhere):
    with LatencyTable(measured_elsewhere, HERE, 1) as table:
        assert table.get_many([kernel(1), kernel(2)]) == {}
        (note,) = table.notes
    assert "2 rows were measured on another target and are not used" in note
    assert "device: Xeon, not Ryzen" in note
    assert "--allow-foreign-table" in note


def test_the_nearest_machine_s_rows_fill_gaps_if_allowed(measured_elsewhere):
    with LatencyTable(measured_elsewhere, HERE, 1, foreign=True) as table:
        table.put(kernel(1), SAMPLES)
        assert table.get_many([kernel(1), kernel(2)]) == {kernel(1): 1550, kernel(2): 6000}
        assert table.row(kernel(2)) is None
        assert len(table) == 1
        assert "steer the search" in table.notes[0]


def test_own_rows_need_no_word_about_others(measured_elsewhere):
    with LatencyTable(measured_elsewhere, HERE, 1) as table:
        table.put(kernel(1), SAMPLES)
    with LatencyTable(measured_elsewhere, HERE, 1) as table:
        assert table.notes == ()


def test_another_backend_is_no_nearest(measured_elsewhere):
    with LatencyTable(measured_elsewhere, replace(HERE, backend="cuda"), 1, foreign=True) as table:
        assert table.get(kernel(1)) is None
        assert table.notes == ()


def _write(path, process, count):
    with LatencyTable(path, HERE, 1) as table:
        for i in range(count):
            table.put(kernel(1000 * process + i), SAMPLES)


@pytest.mark.parametrize(
    ("processes", "count"), [(4, 20), pytest.param(10, 200, marks=pytest.mark.slow)]
)
def test_many_processes_lose_nothing(path, processes, count):
    LatencyTable(path, HERE, 1).close()
    context = multiprocessing.get_context("spawn")
    children = [context.Process(target=_write, args=(path, p, count)) for p in range(processes)]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
    assert [c.exitcode for c in children] == [0] * processes
    with LatencyTable(path, HERE, 1) as table:
        assert len(table) == processes * count
        wanted = [kernel(1000 * p + i) for p in range(processes) for i in range(count)]
        assert len(table.get_many(wanted)) == processes * count


@pytest.mark.slow
def test_a_hundred_thousand_rows(path):
    kernels = [kernel(i) for i in range(100_000)]
    with LatencyTable(path, HERE, 1) as table:
        table.put_many(dict.fromkeys(kernels, SAMPLES))
    begin = time.process_time()
    table = LatencyTable(path, HERE, 1)
    opened = time.process_time()
    assert len(table.get_many(random.Random(0).sample(kernels, 10_000))) == 10_000
    looked_up = time.process_time()
    table.close()
    assert opened - begin <= 1
    assert looked_up - opened <= 1
