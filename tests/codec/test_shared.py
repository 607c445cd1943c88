"""Arrays of indices, dense and sparse: they come back, at their entropy; damage is told."""

import json
import lzma

import numpy as np
import pytest

from hwprune.codec.container import fold_document
from hwprune.codec.decoder.budget import Budget
from hwprune.codec.decoder.container import DecodeError, document
from hwprune.codec.decoder.shared import decode_shared
from hwprune.codec.shared import encode_shared, shared_portions, tell


def index_array(shape, density, seed=0):
    """Indices below 32, like those of a Laplacian; 0 where nothing is."""
    rng = np.random.default_rng(seed)
    found = 1 + np.minimum(np.abs(np.rint(rng.laplace(size=shape) * 5)), 30)
    return np.where(rng.random(shape) < density, found, 0).astype(np.uint16)


def _entropy_bytes(index):
    shares = np.bincount(index.reshape(-1)) / index.size
    shares = shares[shares > 0]
    return -(shares * np.log2(shares)).sum() * index.size / 8


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("density", [1, 0.3, 0.01, 0])
@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 5, 9), (300, 40, 3), (1, 1, 20_000)])
def test_arrays_come_back(shape, density, sparse):
    index = index_array(shape, density)
    index[-1, -1, -1] = 4
    content = encode_shared([tell(index, "a", sparse)])
    (found,) = decode_shared(memoryview(content), Budget(index.size))
    assert np.array_equal(found, index)


@pytest.mark.parametrize("family", ["ab", "aa"])
def test_many_arrays_of_both_kinds_come_back_in_order(family):
    arrays = [index_array((30, 20, i), 0.9 / i**2, i) for i in range(1, 9)]
    told = [tell(a, family[i % 2], True) for i, a in enumerate(arrays)]
    assert {bool(one.reach) for one in told} == {False, True}
    content = encode_shared(told)
    found = decode_shared(memoryview(content), Budget(sum(a.size for a in arrays)))
    assert all(np.array_equal(a, b) for a, b in zip(arrays, found, strict=True))


def test_arrays_of_one_family_write_their_code_once():
    arrays = [index_array((30, 30, 1), 1, i) for i in range(6)]
    joint = encode_shared([tell(a, "all", False) for a in arrays])
    alone = encode_shared([tell(a, str(i), False) for i, a in enumerate(arrays)])
    assert len(joint) < len(alone) - 50


def test_all_elements_are_told_near_their_entropy():
    index = index_array((512, 512, 1), 1)
    content = encode_shared([tell(index, "a", True)])
    assert _entropy_bytes(index) < len(content) < 1.02 * _entropy_bytes(index) + 200


@pytest.mark.parametrize("density", [0.2, 0.05, 0.01, 0.001])
def test_gaps_are_told_near_the_entropy_where_a_code_for_every_element_cannot(density):
    index = index_array((1024, 1024, 1), density)
    dense = encode_shared([tell(index, "a", False)])
    sparse = encode_shared([tell(index, "a", True)])
    assert len(dense) > index.size / 8  # a bit each
    assert _entropy_bytes(index) < len(sparse) < 1.02 * _entropy_bytes(index) + 350


def test_estimated_bits_are_those_of_the_file():
    for density in (1, 0.1):
        told = tell(index_array((256, 256, 4), density), "a", True)
        assert told.bits == pytest.approx(8 * len(encode_shared([told])), rel=0.01, abs=1600)


def test_portions_keep_the_order_and_are_small():
    told = [tell(index_array((2, 2, 1), 1, i), "a", False) for i in range(150)]
    parts = list(shared_portions(told))
    assert [one for part in parts for one in part] == told
    assert max(map(len, parts)) <= 64
    assert list(shared_portions([])) == []


def _changed(content, change):
    length = int.from_bytes(content[:4], "little")
    meta = document(content[4 : 4 + length])
    change(meta)
    head = fold_document(meta)
    return memoryview(len(head).to_bytes(4, "little") + head + content[4 + length :])


DAMAGE = {
    "shape": lambda m: m["arrays"][0].update(shape=[200, 11, 2]),
    "huge": lambda m: m["arrays"][0].update(shape=[1 << 30, 1 << 30, 1 << 30]),
    "negative": lambda m: m["arrays"][0].update(shape=[-200, -10, 2]),
    "reach of nothing": lambda m: m["arrays"][0].update(reach=8),
    "another reach": lambda m: m["arrays"][1].update(reach=3),
    "no reach": lambda m: m["arrays"][1].pop("reach"),
    "a smaller array": lambda m: m["arrays"][1].update(shape=[200, 9, 2]),
    "one array less": lambda m: m["arrays"].pop(),
    "one array more": lambda m: m["arrays"].append(m["arrays"][0]),
    "no arrays": lambda m: m["arrays"].clear(),
    "another code": lambda m: m["streams"][1].__setitem__(0, 0),
    "gaps that are certain": lambda m: m["codes"].__setitem__(1, "01"),
    "long lanes": lambda m: m.update(lane=1 << 14),
    "short lanes": lambda m: m.update(lane=1),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_descriptions_that_do_not_fit_are_refused(name):
    arrays = [index_array((200, 10, 2), 1), index_array((200, 10, 2), 0.05)]
    content = encode_shared([tell(a, "a", True) for a in arrays])
    with pytest.raises(DecodeError):
        decode_shared(_changed(content, DAMAGE[name]), Budget(1 << 20))


def test_no_more_elements_than_the_model_has_bytes():
    content = encode_shared([tell(np.zeros((100, 100, 1), np.uint16), "a", False)])
    assert len(content) < 300
    with pytest.raises(DecodeError, match="more weights"):
        decode_shared(memoryview(content), Budget(2499))


def test_elements_outside_of_a_sparse_array_are_damage():
    index = np.zeros((64, 64, 1), np.uint16)
    index[::5, ::3] = 1
    index[-1, -1] = 2
    content = encode_shared([tell(index, "a", True)])

    def shrink(meta):
        assert meta["arrays"][0]["reach"]
        meta["arrays"][0]["shape"] = [64, 63, 1]

    with pytest.raises(DecodeError, match="outside"):
        decode_shared(_changed(content, shrink), Budget(1 << 20))


def test_descriptions_are_json_in_lzma():
    content = encode_shared([tell(index_array((3, 4, 5), 1), "a", False)])
    length = int.from_bytes(content[:4], "little")
    meta = json.loads(lzma.decompress(content[4 : 4 + length]))
    assert meta["arrays"] == [{"shape": [3, 4, 5]}]
