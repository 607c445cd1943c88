"""Every hostile file ends in a typed error, in a child with limits; the good ones are read."""

import resource
import time

import numpy as np
import pytest

from hwprune.errors import HwpruneError
from hwprune.graph import quarantine
from hwprune.graph.quarantine import read_untrusted
from hwprune.graph.read import read_graph

from .corpus import BAD, GOOD, SECRET, network, save

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


def test_no_secret_comes_out(tmp_path):
    """Whatever a file points to outside its folder is not among the weights."""
    for number, make in enumerate(v for k, v in BAD.items() if k.startswith("external")):
        folder = tmp_path / str(number)
        folder.mkdir()
        with pytest.raises(HwpruneError) as refusal:
            read_graph(make(folder))
        assert SECRET[:8].hex() not in str(refusal.value)


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
