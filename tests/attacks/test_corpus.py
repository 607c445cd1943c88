"""Every hostile file ends in a typed error, in a child with limits; the good ones are read."""

import os
import resource
import threading
import time

import numpy as np
import onnx
import pytest

from hwprune.errors import HwpruneError, ModelError, UnsafeModelError
from hwprune.graph import quarantine
from hwprune.graph.external import read_external
from hwprune.graph.quarantine import read_untrusted
from hwprune.graph.read import read_graph

from .corpus import BAD, GOOD, SECRET, external, network, save
from .witness import OPENED, READ, watched

pytestmark = pytest.mark.ort
_SECONDS = 60  # shared machines; the parent process alone would wait for some of them forever


@pytest.mark.parametrize("make", GOOD.values(), ids=GOOD)
def test_good_controls_are_read(make, tmp_path):
    graph = read_untrusted(make(tmp_path))
    values = [t.values for t in graph.tensors().values() if hasattr(t, "values")]
    np.testing.assert_array_equal(values[0], np.ones((8, 8), np.float32))


@pytest.mark.parametrize("make", BAD.values(), ids=BAD)
def test_attacks_are_refused(make, tmp_path, monkeypatch):
    path = make(tmp_path)
    monkeypatch.chdir(tmp_path)
    begin = time.monotonic()
    with pytest.raises(HwpruneError) as refusal:
        read_untrusted(path)
    assert time.monotonic() - begin < _SECONDS
    assert refusal.value.exit_code in (2, 3)
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 2000
    assert not (tmp_path / "stolen").exists()


def test_the_witness_sees_a_file_that_is_read(tmp_path):
    path = external("weights")(tmp_path)
    with watched(path.parent / "weights") as seen:
        read_untrusted(path)
    assert {("weights", OPENED), ("weights", READ)} <= set(seen)


EXTERNAL = {name: make for name, make in BAD.items() if name.startswith("external")}


@pytest.mark.parametrize("make", EXTERNAL.values(), ids=EXTERNAL)
def test_nothing_outside_is_opened(make, tmp_path):
    """Neither the child nor we open what lies outside the model's folder, let alone read it."""
    path = make(tmp_path)
    with watched(tmp_path / "secret") as seen, pytest.raises(HwpruneError) as refusal:
        read_untrusted(path)
    assert not seen
    assert SECRET[:8].hex() not in str(refusal.value)


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_file_that_is_swapped_while_it_is_read(link, tmp_path):
    """Checked as one thing, opened as another: the secret's content never comes out."""
    path = external("weights")(tmp_path)
    folder, good = path.parent, (path.parent / "weights").read_bytes()
    tensor = onnx.ModelProto.FromString(path.read_bytes()).graph.initializer[0]
    ended, found, swaps = threading.Event(), set(), 0

    def swap():
        nonlocal swaps
        while not ended.is_set():
            link(tmp_path / "secret", folder / "next")
            os.replace(folder / "next", folder / "weights")
            (folder / "next").write_bytes(good)
            os.replace(folder / "next", folder / "weights")
            swaps += 1

    thread = threading.Thread(target=swap)
    thread.start()
    with watched(tmp_path / "secret") as seen:
        for _ in range(3000):
            try:
                found.add(read_external(tensor, path, 1 << 20))
            except HwpruneError as refusal:
                found.add(type(refusal))
    ended.set()
    thread.join()
    assert swaps > 10
    assert ("secret", READ) not in seen
    assert found <= {good, b"", ModelError, UnsafeModelError}
    assert {good, UnsafeModelError} <= found


def test_a_child_that_hangs_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(quarantine, "_SECONDS", 0.05)
    with pytest.raises(HwpruneError, match=r"took more than 0 s"):
        read_untrusted(save(network(), tmp_path))


def test_a_child_that_takes_too_much_memory_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(quarantine, "_BYTES", 150 << 20)
    with pytest.raises(HwpruneError, match=r"memory"):
        read_untrusted(save(network(), tmp_path))
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    assert soft == resource.RLIM_INFINITY or soft > 1 << 32  # ours is as it was


def test_what_the_child_wrote_is_what_reading_gives(tmp_path):
    path = save(network(), tmp_path)
    ours, childs = read_graph(path), read_untrusted(path)
    assert [n.name for n in ours.nodes] == [n.name for n in childs.nodes]
    for name, tensor in ours.tensors().items():
        other = childs.tensors()[name]
        assert tuple(tensor.shape) == tuple(other.shape)
        assert tensor.dtype == other.dtype
