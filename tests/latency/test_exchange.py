import json
from dataclasses import replace

import pytest

from hwprune.backend import Identity, Samples, Timed
from hwprune.errors import StoreError
from hwprune.latency.exchange import export_rows, import_rows, merge_rows
from hwprune.latency.ledger import Ledger
from hwprune.latency.lines import origin_line, parse, read_origin, read_row, row_line
from hwprune.latency.table import LatencyTable
from hwprune.testing.kernels import conv, example

HERE = Identity("cpu", "Xeon", "onnxruntime 1.31.1", {"isa": "abc"})
THERE = replace(HERE, device="Ryzen")
KERNELS = [conv(channels=(16, c)) for c in range(1, 8)] + [example("Concat", "int8")]
SAMPLES = Samples(((1500,) * 9, (1600,) * 9), (1.0, 0.9))


@pytest.fixture
def path(tmp_path):
    """A table with rows of two targets."""
    found = tmp_path / "latency.db"
    with LatencyTable(found, HERE, 2) as table:
        table.begin({"governor": "powersave"})
        table.put_many(dict.fromkeys(KERNELS[:4], SAMPLES))
        table.begin({"governor": "performance"})
        table.put_many(dict.fromkeys(KERNELS[4:], SAMPLES))
    with LatencyTable(found, THERE, 1) as table:
        table.put(KERNELS[0], SAMPLES)
    return found


@pytest.fixture
def exported(path, tmp_path):
    with Ledger(path) as ledger:
        assert export_rows(ledger, tmp_path / "rows.jsonl") == len(KERNELS) + 1
    return tmp_path / "rows.jsonl"


@pytest.fixture
def other(tmp_path):
    with Ledger(tmp_path / "other.db") as ledger:
        yield ledger


def counted(counts):
    return counts.added, counts.replaced, counts.kept, counts.refused


@pytest.mark.parametrize("way", [import_rows, merge_rows])
def test_rows_arrive_as_they_were(path, exported, other, way):
    source = exported if way is import_rows else path
    assert counted(way(other, source)) == (len(KERNELS) + 1, 0, 0, 0)
    with LatencyTable(path, HERE, 2) as sent, LatencyTable(other.path, HERE, 2) as came:
        for kernel in KERNELS:
            before, after = sent.row(kernel), came.row(kernel)
            assert replace(before, session=0) == replace(after, session=0)
            assert sent.conditions(before) == came.conditions(after)
    with LatencyTable(other.path, THERE, 1) as came:
        assert len(came) == 1


@pytest.mark.parametrize("way", [import_rows, merge_rows])
def test_a_second_time_changes_nothing(path, exported, other, way):
    source = exported if way is import_rows else path
    way(other, source)
    assert counted(way(other, source)) == (0, 0, len(KERNELS) + 1, 0)


def test_an_export_is_the_same_every_time(path, exported, tmp_path):
    with Ledger(path) as ledger:
        export_rows(ledger, tmp_path / "again.jsonl")
    assert (tmp_path / "again.jsonl").read_bytes() == exported.read_bytes()


def test_more_processes_win_then_the_newer(path, exported):
    few, many = Samples(((1,),), (1.0,)), Samples(((2,),) * 3, (1.0,) * 3)
    with LatencyTable(path, HERE, 2) as table:
        table.put_many({KERNELS[0]: few, KERNELS[1]: many})
        table.put(KERNELS[2], Samples(((9,), (9,)), (1.0, 1.0)))
    with Ledger(path) as ledger:
        assert counted(import_rows(ledger, exported)) == (0, 1, len(KERNELS), 0)
    with LatencyTable(path, HERE, 2) as table:
        assert table.get_many(KERNELS[:3]) == {KERNELS[0]: 1550, KERNELS[1]: 2, KERNELS[2]: 9}


def test_a_row_that_comes_twice_is_entered_once(exported, other):
    text = exported.read_text()
    exported.write_text(text + text.partition("\n")[2])
    assert counted(import_rows(other, exported)) == (len(KERNELS) + 1, 0, len(KERNELS) + 1, 0)


def test_stale_rows_stay_behind(path, other):
    with LatencyTable(path, HERE, 2) as table:
        table.begin({})
        table.outdate()
        table.add([(KERNELS[0], Timed((5,), 1.0))])
    assert counted(merge_rows(other, path)) == (2, 0, 0, 0)


def test_a_damaged_file_is_merged_as_far_as_it_goes_and_left_alone(path, other):
    data = bytearray(path.read_bytes())
    data[5000] ^= 255
    del data[-100:]
    path.write_bytes(data)
    counts = merge_rows(other, path)
    assert counts.refused
    assert path.read_bytes() == data


@pytest.mark.parametrize("content", [b"", b"\n", b"{}", b"[]", b"\xff\xfe", b'{"version": 1}'])
def test_what_is_no_export_is_refused(tmp_path, other, content):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(StoreError, match="no exported latency table"):
        import_rows(other, tmp_path / "file")


def test_a_file_that_is_not_there(tmp_path, other):
    for way in (import_rows, merge_rows):
        with pytest.raises(StoreError, match="cannot read"):
            way(other, tmp_path / "absent")


def hostile(row):
    """Lines that look like this row, each with something wrong."""
    fields = json.loads(row)

    def changed(**new):
        return json.dumps(fields | new)

    kernel = fields["kernel"]
    yield changed(created=1e308)
    yield changed(created=None)
    yield changed(created=fields["created"] + 1)
    yield changed(runs_ns=[])
    yield changed(runs_ns=[[]])
    yield changed(runs_ns=[[True], [1]])
    yield changed(runs_ns=[[1.5], [1]])
    yield changed(runs_ns=[[-1], [1]])
    yield changed(runs_ns=[[10**400], [1]])
    yield changed(runs_ns={"__class__": "Samples"})
    yield changed(cpu_share=[1.0])
    yield changed(cpu_share=["1.0", "1.0"])
    yield changed(session=7)
    yield changed(sha256="0" * 64)
    yield changed(__class__="os.system")
    yield changed(kernel="Conv")
    yield changed(kernel=kernel[:5])
    yield changed(kernel=[7, *kernel[1:]])
    yield changed(kernel=[*kernel[:2], [[-1]], *kernel[3:]])
    yield changed(kernel=[*kernel[:2], [[2**40]], *kernel[3:]])
    yield changed(kernel=[*kernel[:4], [["a"]], []])
    yield changed(kernel=[*kernel[:2], *[{"__class__": "list"}] * 4])
    yield row.replace('"created":', '"created":NaN,"x":')
    yield row.replace('"created":', '"created":1e999,"x":')
    yield row.replace("1500", "Infinity", 1)
    yield row.replace('"session"', '"created":1,"session"')
    yield row.replace("1500", "9" * 5000, 1)
    yield "[" * 100_000
    yield "7"
    yield ""
    yield " " * (1 << 21)
    yield row[: len(row) // 2]


def test_hostile_rows_are_refused_one_by_one(exported, other):
    head, origin, row, *_ = exported.read_text().splitlines()
    bad = list(hostile(row))
    exported.write_text("\n".join([head, origin, *bad, row]) + "\n")
    counts = import_rows(other, exported)
    assert counted(counts) == (1, 0, 0, len(bad))
    assert counts.reasons[0].startswith("line 3: ")
    assert len(counts.reasons) == 5


@pytest.mark.parametrize(
    "change",
    [
        {"threads": 0},
        {"threads": 10**30},
        {"threads": True},
        {"device": None},
        {"details": []},
        {"details": {"isa": {"__class__": "str"}}},
        {"__class__": "Identity"},
    ],
)
def test_rows_below_a_hostile_target_are_refused_with_it(exported, other, change):
    head, origin, row, *_ = exported.read_text().splitlines()
    fields = json.loads(origin)
    fields["target"] |= change
    exported.write_text("\n".join([head, json.dumps(fields), row]) + "\n")
    assert counted(import_rows(other, exported)) == (0, 0, 0, 2)
    assert other.targets() == []


def test_rows_cannot_be_moved_to_another_target(exported, other):
    head, origin, row, *_ = exported.read_text().splitlines()
    exported.write_text("\n".join([head, origin.replace("Xeon", "Ryzen"), row]) + "\n")
    counts = import_rows(other, exported)
    assert counted(counts) == (0, 0, 0, 1)
    assert "checksum does not fit" in counts.reasons[0]


def test_lines_are_read_as_they_were_written(exported):
    _, origin, row, *_ = exported.read_text().splitlines()
    assert origin_line(read_origin(parse(origin.encode()))) == origin
    found = read_origin(parse(origin.encode()))
    assert row_line(found, read_row(found, parse(row.encode()))) == row
