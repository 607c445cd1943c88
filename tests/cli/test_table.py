"""`hwprune table`: what is in the file, in and out of it, and what happens when it is damaged."""

import json
from pathlib import Path

import pytest
from hwprune.backends.null import NullBackend

from hwprune.backend import Identity
from hwprune.latency.fill import fill
from hwprune.latency.table import LatencyTable
from hwprune.testing.kernels import conv, example

KERNELS = [conv(p, (16, c)) for p in ("fp32", "int8") for c in (4, 8, 12)] + [example("Add")]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache folder of one's own."""
    monkeypatch.setenv("HWPRUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def table(cache):
    cache.mkdir()
    path = cache / "latency.db"
    with LatencyTable(path, NullBackend().identity(), 1) as found:
        fill(found, NullBackend(), KERNELS)
    with LatencyTable(path, Identity("cpu", "Ryzen", "onnxruntime 1", {}), 2) as found:
        found.begin({"governor": "powersave"})
        found.put(KERNELS[0], found_elsewhere(path))
    return path


def found_elsewhere(path):
    with LatencyTable(path, NullBackend().identity(), 1) as other:
        return other.row(KERNELS[0]).samples


def test_show_says_what_is_there(hwprune, table):
    text = hwprune("table", "show").stdout
    assert "null: rules, null 1, threads 1" in text
    assert "Conv int8  3" in text
    assert "7 rows, 0 unsteady, 0 stale, 0 damaged" in text
    assert "last under governor powersave" in text
    assert "Ryzen" not in hwprune("table", "show", "--target", "null").stdout


def test_show_in_json(hwprune, table):
    (found,) = json.loads(hwprune("table", "show", "--target", "null", "--json").stdout)
    assert found["rows"] == {"Add fp32": 1, "Conv fp32": 3, "Conv int8": 3}
    assert found["identity"]["threads"] == 1
    assert found["oldest"] <= found["newest"]


@pytest.mark.parametrize("verb", [["show"], ["check"], ["export", "rows.jsonl"]])
def test_without_a_table_nothing_is_made(hwprune, cache, verb):
    result = hwprune("table", *verb)
    assert result.exit_code == 7
    assert "there is no latency table" in result.stderr
    assert not cache.exists()


def test_rows_go_out_and_come_in_elsewhere(hwprune, table, tmp_path, monkeypatch):
    assert "8 rows written" in hwprune("table", "export", "rows.jsonl").stdout
    monkeypatch.setenv("HWPRUNE_CACHE", str(tmp_path / "elsewhere"))
    assert "8 rows added" in hwprune("table", "import", "rows.jsonl").stdout
    result = hwprune("table", "merge", table)
    assert result.exit_code == 0
    assert "0 rows added, 0 replaced, 8 not" in result.stdout


def test_what_is_refused_is_said(hwprune, table):
    hwprune("table", "export", "rows.jsonl")
    Path("rows.jsonl").write_text(Path("rows.jsonl").read_text().replace('"Conv"', '"Cont"', 1))
    result = hwprune("table", "import", "rows.jsonl")
    assert result.exit_code == 7
    assert "7 not" in result.stdout
    assert "1 refused: line 4: the checksum does not fit" in result.stderr


def test_a_file_of_something_else_is_refused(hwprune, classifier):
    for verb in ("import", "merge"):
        result = hwprune("table", verb, classifier)
        assert result.exit_code == 7, result.output
        assert "Traceback" not in result.output


def test_a_sound_table_passes_the_check(hwprune, table):
    result = hwprune("table", "check")
    assert result.exit_code == 0
    assert "all sound" in result.stdout


def test_a_flipped_bit_is_found_and_the_rest_saved(hwprune, table):
    data = bytearray(table.read_bytes())
    data[data.index(b'["Conv","int8"') + 4] ^= 1
    table.write_bytes(data)
    result = hwprune("table", "check")
    assert result.exit_code == 7
    assert "1 of " in result.stderr
    assert "the next run measures what is missing" in result.stderr
    (aside,) = table.parent.glob("*.damaged-*")
    assert aside.read_bytes() == data
    assert hwprune("table", "check").exit_code == 0
    assert "6 rows" in hwprune("table", "show", "--target", "null").stdout


def test_a_broken_file_is_replaced(hwprune, table):
    table.write_bytes(b"broken" * 1000)
    result = hwprune("table", "check")
    assert result.exit_code == 7
    assert "was damaged" in result.stderr
    assert hwprune("table", "check").exit_code == 0


def compiled(hwprune, model, *more):
    ask = ("--target", "null", "--budget", "0.9x", "--evaluations", "3", "--json")
    result = hwprune("compile", model, *ask, *more)
    report = json.loads(result.stdout)
    # Whatever steered the search, the verdict is about what was measured.
    used = report["latency_ms"]["compiled"]["p50"] / report["latency_ms"]["original"]["p50"]
    assert (report["verdict"] == "met") == (used <= 0.9)
    assert result.exit_code == (0 if used <= 0.9 else 4)
    return report


def rows_of_one_thread(path):
    with LatencyTable(path, NullBackend().identity(), 1) as table:
        return len(table)


def test_another_target_s_rows_steer_a_search_only_where_that_is_allowed(
    hwprune, cache, classifier
):
    compiled(hwprune, classifier, "--threads", "2", "--out", "two")
    report = compiled(hwprune, classifier, "--out", "foreign", "--allow-foreign-table")
    assert any("steer the search" in w and "threads: 1, not 2" in w for w in report["warnings"])
    assert rows_of_one_thread(cache / "latency.db") == 0
    own = compiled(hwprune, classifier, "--out", "own")
    assert any("are not used (threads: 1, not 2)" in w for w in own["warnings"])
    assert rows_of_one_thread(cache / "latency.db") > 0
    # Two threads halve every price of this target; what is reported is about one all the same.
    assert report["latency_ms"]["original"] == own["latency_ms"]["original"]
