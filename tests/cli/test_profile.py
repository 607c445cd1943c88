"""`hwprune profile`: the layer table, the general grid, plots, and what an interrupt keeps."""

import json

import pytest
from click.testing import CliRunner
from hwprune.backends.null import NullBackend

from hwprune.cli.app import app
from hwprune.latency.table import LatencyTable
from hwprune.testing.networks import Builder, pooled_head

SHAPE = ("--shape", "x=1,3,8,8")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HWPRUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "latency.db"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A network that is read in less time than the bundled one is exported."""
    b = Builder(0, (3, 8, 8))
    model = b.model(pooled_head(b, b.relu(b.conv(b.relu(b.conv("x", 16)), 32))), classes=5)
    path = tmp_path_factory.mktemp("network") / "small.onnx"
    path.write_bytes(model.SerializeToString())
    return str(path)


def profile(*arguments: str):
    return CliRunner().invoke(app, ["profile", "--target", "null", "--threads", "1", *arguments])


def rows(path) -> int:
    with LatencyTable(path, NullBackend().identity(), 1) as table:
        return len(table)


def test_layers_are_shown_with_times_shares_and_steps(cache):
    result = profile("digits", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["predicted_ns"] == pytest.approx(found["measured_ns"], rel=0.05)
    assert sum(row["share"] for row in found["layers"]) == pytest.approx(1.0)
    assert found["foreseen"] == 1.0
    convs = [row for row in found["layers"] if "Conv fp32" in row["kernels"]]
    assert convs
    assert any("out 16" in row["steps"] for row in convs)
    assert rows(cache) == found["rows_measured"]


def test_a_second_profile_measures_nothing(cache, small):
    profile(small, *SHAPE)
    before = rows(cache)
    again = profile(small, *SHAPE)
    assert again.exit_code == 0
    assert ", 0 of them measured now" in again.stdout
    assert "layer" in again.stdout.splitlines()[0]
    assert rows(cache) == before


def test_without_a_model_a_grid_is_measured_that_networks_share(cache):
    result = profile("--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    periods = {(s["op"], s["precision"], s["kind"], s["role"]): s for s in found["steps"]}
    assert periods["Conv", "fp32", "dense", "out"]["period"] == 16
    assert periods["Conv", "int8", "dense", "in"]["slowdown"] == pytest.approx(1.5, rel=0.1)
    assert found["rows_measured"] == rows(cache)
    assert "times as long" in profile().stdout


def test_plots_and_a_page_are_written(cache, small, tmp_path):
    result = profile(small, *SHAPE, "--plot", "--out", str(tmp_path / "plots"))
    assert result.exit_code == 0, result.output
    written = {p.name: p.read_bytes() for p in (tmp_path / "plots").iterdir()}
    assert {"shares.png", "staircase.png", "profile.html"} <= written.keys()
    assert written["staircase.png"].startswith(b"\x89PNG")
    assert b"<svg" in written["profile.html"]


def test_an_interrupt_keeps_what_was_measured(cache, small, monkeypatch):
    real = NullBackend.time_kernels

    def interrupted(self, kernels, threads, runs, seed):
        for index, timed in real(self, kernels, threads, runs, seed):
            if seed == 2 and index > 5:
                raise KeyboardInterrupt
            yield index, timed

    monkeypatch.setattr(NullBackend, "time_kernels", interrupted)
    assert profile(small, *SHAPE).exit_code == 130
    assert rows(cache) > 0
    monkeypatch.setattr(NullBackend, "time_kernels", real)
    assert profile(small, *SHAPE).exit_code == 0


@pytest.mark.parametrize("arguments", [["--threads", "0"], ["--runtime", "arena"], ["none.onnx"]])
def test_bad_input_is_refused(cache, arguments):
    assert profile(*arguments).exit_code in (2, 3)
