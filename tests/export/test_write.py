import os
from pathlib import Path

import onnx_graphsurgeon as gs
import pytest
import torch
from safetensors.numpy import load_file

from hwprune.errors import StoreError
from hwprune.export import write
from hwprune.export.load import load
from hwprune.export.write import finish, write_artifact
from hwprune.network.run import outputs
from hwprune.network.twin import to_module
from hwprune.store.files import write_atomic
from hwprune.testing.networks import Block, build, dense, flat_head, residual, shuffled

OLD = {"model.onnx": b"old", "report.json": b"old"}
NEW = {"model.onnx": b"new", "report.json": b"new", "report.html": b"new"}


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name in NEW}


@pytest.mark.parametrize("blocks", [(residual, dense), (shuffled,)], ids=lambda b: b[0].__name__)
def test_network_comes_back_bit_for_bit(
    blocks: tuple[Block, ...], tmp_path: Path, images: torch.Tensor
) -> None:
    graph = build(*blocks, head=flat_head)
    write_artifact(tmp_path / "out", graph, OLD)
    loaded = load(tmp_path / "out")
    assert torch.equal(outputs(loaded, images)[0], outputs(to_module(graph), images)[0])
    assert any(parameter.requires_grad for parameter in loaded.parameters())


def test_safetensors_hold_every_weight_by_name(tmp_path: Path) -> None:
    graph = build(residual)
    write_artifact(tmp_path, graph, {})
    names = {n for n, t in graph.tensors().items() if isinstance(t, gs.Constant)}
    assert set(load_file(tmp_path / "model.safetensors")) == names
    assert (tmp_path / "network.onnx").stat().st_size < 8000


@pytest.mark.parametrize("writes", range(5))
def test_failure_while_writing_leaves_the_old_artefact(
    writes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_artifact(tmp_path, build(residual), OLD)
    real, count = write_atomic, iter(range(10))

    def full(path: Path, data: bytes) -> None:
        if next(count) == writes:
            raise StoreError("disk full")
        real(path, data)

    monkeypatch.setattr(write, "write_atomic", full)
    with pytest.raises(StoreError):
        write_artifact(tmp_path, build(residual), NEW)
    assert contents(tmp_path) == OLD
    load(tmp_path)
    assert contents(tmp_path) == OLD


@pytest.mark.parametrize("moves", range(5))
def test_crash_after_the_commit_is_finished_by_the_next(
    moves: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_artifact(tmp_path, build(residual), OLD)
    real, count = os.replace, iter(range(100))
    graph = build(residual)

    def killed(source: Path, target: Path) -> None:
        if Path(source).parent.name == ".artifact" and next(count) == moves:
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_artifact(tmp_path, graph, NEW)
    monkeypatch.setattr(os, "replace", real)
    finish(tmp_path)
    assert contents(tmp_path) == NEW
    assert not (tmp_path / ".artifact").exists()


def test_what_else_is_in_the_folder_stays(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    write_artifact(tmp_path, build(residual), OLD)
    assert (tmp_path / "run").is_dir()
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(StoreError, match="out"):
        write_artifact(tmp_path / "out", build(residual), OLD)


def test_loading_from_nowhere_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"network\.onnx"):
        load(tmp_path / "nothing")
