import json
import multiprocessing

import pytest

from hwprune.errors import StoreError
from hwprune.store.rundir import RunFolder, digest


@pytest.fixture
def run(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.file("plan.json").write_text("{}")
    folder.finish("search", "abc", ["plan.json"], 1.5)
    return folder


def test_a_finished_stage_is_found_again(run):
    found = RunFolder(run.path).stage("search", "abc")
    assert found is not None
    assert found.seconds == 1.5
    assert list(found.outputs) == ["plan.json"]


def test_other_inputs_mean_doing_it_again(run):
    assert run.stage("search", "abd") is None
    assert run.stage("slim", "abc") is None


@pytest.mark.parametrize("harm", ["change", "remove"])
def test_a_harmed_output_means_doing_it_again(run, harm):
    path = run.file("plan.json")
    path.write_text("{ }") if harm == "change" else path.unlink()
    assert run.stage("search", "abc") is None


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\x00", b"[]", b'{"version": 99}', b'{"version": 1, "stages": [1]}']
)
def test_a_damaged_manifest_means_starting_over(run, content):
    run.file("manifest.json").write_bytes(content)
    assert RunFolder(run.path).stage("search", "abc") is None


def test_a_stage_without_its_files_is_not_finished(run):
    with pytest.raises(StoreError, match=r"slim did not write graph\.onnx"):
        run.finish("slim", "abc", ["graph.onnx"], 1.0)


def test_the_manifest_is_plain_json(run):
    document = json.loads(run.file("manifest.json").read_text())
    assert document["stages"][0]["name"] == "search"


def _try(path, results):
    try:
        with RunFolder(path).lock():
            results.put("got it")
    except StoreError as error:
        results.put(error.message)


def test_two_compilers_in_one_folder(run):
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    with run.lock():
        other = context.Process(target=_try, args=(run.path, results))
        other.start()
        assert "locked by pid" in results.get(timeout=30)
        other.join()
    with run.lock() as again:
        assert again.stage("search", "abc") is not None


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(StoreError, match="cannot make"):
        RunFolder(tmp_path / "run")


def test_digests_tell_parts_apart():
    assert digest("ab", "c") != digest("a", "bc")
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest(b"x") == digest(b"x") != digest(b"y")
