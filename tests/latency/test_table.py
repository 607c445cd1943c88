import multiprocessing
import random
import sqlite3
import time
from dataclasses import replace

import pytest

from hwprune.backend import Identity, Kernel, Samples
from hwprune.errors import StoreError
from hwprune.latency.table import LatencyTable

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
        assert table.get(kernel(1)) == 1500
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
        assert table.get_many([kernel(1), kernel(2)]) == {kernel(1): 1500}


def test_a_later_measurement_replaces_the_row(path):
    with LatencyTable(path, HERE, 1) as table:
        table.put(kernel(1), SAMPLES)
        table.put(kernel(1), Samples(((900,),), (1.0,)))
        assert table.get(kernel(1)) == 900
        assert len(table) == 1


@pytest.mark.parametrize("column", ["ns", "samples", "created", "kernel"])
def test_a_changed_cell_is_never_used(path, column):
    with LatencyTable(path, HERE, 1) as table:
        table.put(kernel(1), SAMPLES)
    changed = {"ns": 1.0, "samples": "[[[1]],[1.0]]", "created": 0.0, "kernel": kernel(2).key()}
    with sqlite3.connect(path) as raw:
        raw.execute(f"UPDATE row SET {column}=?", (changed[column],))
    raw.close()
    with LatencyTable(path, HERE, 1) as table:
        assert table.get_many([kernel(1), kernel(2)]) == {}
        assert table.damaged == 1


def test_random_bit_flips_never_give_a_wrong_latency(path):
    truth = {kernel(i): 1000.0 + i for i in range(60)}
    with LatencyTable(path, HERE, 1) as table:
        table.put_many({k: Samples(((int(ns),),), (1.0,)) for k, ns in truth.items()})
    rng, sound = random.Random(1), path.read_bytes()
    for _ in range(60):
        data = bytearray(sound)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        try:
            with LatencyTable(path, HERE, 1) as table:
                found = table.get_many(truth)
        except StoreError:
            continue
        assert found.items() <= truth.items()


def _write(path, process):
    with LatencyTable(path, HERE, 1) as table:
        for i in range(20):
            table.put(kernel(100 * process + i), SAMPLES)


def test_many_processes_lose_nothing(path):
    LatencyTable(path, HERE, 1).close()
    context = multiprocessing.get_context("spawn")
    children = [context.Process(target=_write, args=(path, p)) for p in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [c.exitcode for c in children] == [0] * 4
    with LatencyTable(path, HERE, 1) as table:
        assert len(table) == 80


@pytest.mark.slow
def test_a_hundred_thousand_rows(path):
    kernels = [kernel(i) for i in range(100_000)]
    with LatencyTable(path, HERE, 1) as table:
        table.put_many(dict.fromkeys(kernels, SAMPLES))
    begin = time.perf_counter()
    table = LatencyTable(path, HERE, 1)
    opened = time.perf_counter()
    assert len(table.get_many(random.Random(0).sample(kernels, 10_000))) == 10_000
    looked_up = time.perf_counter()
    table.close()
    assert opened - begin <= 1
    assert looked_up - opened <= 1
